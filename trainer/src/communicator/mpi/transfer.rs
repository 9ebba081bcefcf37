//! Messages under way in MPI, with the memory that it reads or writes meanwhile.
//!
//! The bindings tie a request to the lifetime of its buffer, which a queue of buffers that come and
//! go does not have. Here buffer and request are one value: the buffer is neither touched nor freed
//! before the request has completed, and never freed if it is given up.

#![expect(unsafe_code, reason = "MPI holds on to buffers longer than a borrow can say")]

use mpi::point_to_point::{Message, Status};
use mpi::request::{Request, StaticScope};
use mpi::topology::Process;
use mpi::traits::{Destination, Equivalence};

/// The tag of the last part of a message, and of one that others follow.
pub(super) const LAST: i32 = 0;
const MORE: i32 = 1;

type Transfer = Request<'static, [u8], StaticScope>;

/// A message that is being sent, in parts of at most so many bytes.
pub(super) struct Outgoing {
    requests: Vec<Transfer>,
    buffer: Vec<u8>,
}

// SAFETY: MPI's requests belong to the process, not to a thread: with `MPI_THREAD_SERIALIZED`,
// which is checked at the start, any thread may complete them, one at a time, which `&mut` grants.
unsafe impl Send for Outgoing {}

impl Outgoing {
    pub(super) fn start(to: &Process<'_>, buffer: Vec<u8>, part_bytes_max: usize) -> Self {
        // SAFETY: the bytes stay where they are, unchanged, until all requests have completed:
        // `finish` hands out the buffer only then, and `drop` leaks it before.
        let bytes: &'static [u8] =
            unsafe { std::slice::from_raw_parts(buffer.as_ptr(), buffer.len()) };
        let mut parts = bytes.chunks(part_bytes_max).peekable();
        let mut requests = Vec::with_capacity(parts.len());
        while let Some(part) = parts.next() {
            let tag = if parts.peek().is_some() { MORE } else { LAST };
            requests.push(to.immediate_send_with_tag(StaticScope, part, tag));
        }
        Self { requests, buffer }
    }

    /// The buffer, if everything has left.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        while let Some(request) = self.requests.pop() {
            if let Err(request) = request.test() {
                self.requests.push(request);
                return None;
            }
        }
        Some(std::mem::take(&mut self.buffer))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.requests.is_empty() {
            // MPI may still read it.
            std::mem::forget(std::mem::take(&mut self.buffer));
            std::mem::take(&mut self.requests).into_iter().for_each(std::mem::forget);
        }
    }
}

/// A part of a message that is being received, after the parts before it.
pub(super) struct Incoming {
    pub(super) from: u32,
    pub(super) is_last: bool,
    request: Option<Transfer>,
    buffer: Vec<u8>,
}

// SAFETY: as for `Outgoing`.
unsafe impl Send for Incoming {}

impl Incoming {
    /// Receives behind the first `start` bytes of the buffer.
    pub(super) fn start(
        message: Message,
        status: Status,
        mut buffer: Vec<u8>,
        start: usize,
    ) -> Self {
        let bytes = usize::try_from(status.count(u8::equivalent_datatype())).unwrap_or(0);
        buffer.resize(start + bytes, 0);
        let (pointer, bytes) = (buffer[start..].as_mut_ptr(), buffer.len() - start);
        // SAFETY: nobody else touches the bytes, and they stay where they are, until the request
        // has completed: `finish` hands out the buffer only then, and `drop` leaks it before.
        let place: &'static mut [u8] = unsafe { std::slice::from_raw_parts_mut(pointer, bytes) };
        let request = Some(message.immediate_matched_receive_into(StaticScope, place));
        let from = status.source_rank().cast_unsigned();
        Self { from, is_last: status.tag() == LAST, request, buffer }
    }

    /// The buffer, if everything has come.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        if let Some(request) = self.request.take()
            && let Err(request) = request.test()
        {
            self.request = Some(request);
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            // MPI may still write it.
            std::mem::forget(std::mem::take(&mut self.buffer));
            std::mem::forget(request);
        }
    }
}

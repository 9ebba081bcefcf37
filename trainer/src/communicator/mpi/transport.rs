//! Messages by MPI, polled.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mpi::point_to_point::Source;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator;

use super::super::transport::{Event, Pool, Refused, Transport};
use super::transfer::{Incoming, Outgoing};

/// Messages that may be on their way to one rank.
const OUTGOING_MAX: usize = 32;

/// MPI counts in 32 bits with a sign: longer messages go in parts.
const PART_BYTES_MAX: usize = 1 << 30;

/// Looks in vain before a rank gives the processor away for longer than a moment.
const EAGER_LOOKS: u32 = 200;
const NAP_MIN: Duration = Duration::from_micros(20);
const NAP_MAX: Duration = Duration::from_micros(500);

/// The transport of a rank that is a process.
pub struct MpiTransport {
    rank: u32,
    world: u32,
    part_bytes_max: usize,
    outgoing: Vec<VecDeque<Outgoing>>,
    incoming: Option<Incoming>,
    /// The first parts of messages whose last has not come, of each rank.
    parts: Vec<Vec<u8>>,
    pool: Pool,
    failed: Arc<AtomicBool>,
}

impl fmt::Debug for MpiTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, world, .. } = self;
        f.debug_struct("MpiTransport").field("rank", rank).field("world", world).finish()
    }
}

impl MpiTransport {
    pub(super) fn new(failed: Arc<AtomicBool>) -> Self {
        let all = SimpleCommunicator::world();
        let (rank, world) = (all.rank().cast_unsigned(), all.size().cast_unsigned());
        Self {
            rank,
            world,
            part_bytes_max: PART_BYTES_MAX,
            outgoing: (0..world).map(|_| VecDeque::new()).collect(),
            incoming: None,
            parts: vec![Vec::new(); world as usize],
            pool: Pool::new(world),
            failed,
        }
    }

    /// Sends longer messages in parts of so many bytes, at least one and at most 1 GiB.
    #[must_use]
    pub fn with_part_bytes_max(mut self, bytes: usize) -> Self {
        self.part_bytes_max = bytes.clamp(1, PART_BYTES_MAX);
        self
    }

    /// Lets go of what has left.
    fn progress(&mut self) {
        for queue in &mut self.outgoing {
            while let Some(buffer) = queue.front_mut().and_then(Outgoing::finish) {
                self.pool.give(buffer);
                queue.pop_front();
            }
        }
    }

    fn look(&mut self) -> Option<Event> {
        if self.incoming.is_none() {
            let all = SimpleCommunicator::world();
            let (message, status) = all.any_process().immediate_matched_probe()?;
            let from = status.source_rank().cast_unsigned() as usize;
            let parts = std::mem::take(&mut self.parts[from]);
            let start = parts.len();
            let buffer = if start > 0 { parts } else { self.pool.take() };
            self.incoming = Some(Incoming::start(message, status, buffer, start));
        }
        let incoming = self.incoming.as_mut()?;
        let bytes = incoming.finish()?;
        let (from, is_last) = (incoming.from, incoming.is_last);
        self.incoming = None;
        if is_last {
            return Some(Event::Message { from, bytes });
        }
        self.parts[from as usize] = bytes;
        None
    }
}

impl Transport for MpiTransport {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn world(&self) -> u32 {
        self.world
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.pool.take()
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.pool.give(buffer);
    }

    fn try_send(&mut self, to: u32, message: Vec<u8>) -> Result<(), Refused> {
        if self.outgoing[to as usize].len() >= OUTGOING_MAX {
            self.progress();
            if self.outgoing[to as usize].len() >= OUTGOING_MAX {
                return Err(Refused::Full(message));
            }
        }
        let all = SimpleCommunicator::world();
        let receiver = all.process_at_rank(to.cast_signed());
        let outgoing = Outgoing::start(&receiver, message, self.part_bytes_max);
        self.outgoing[to as usize].push_back(outgoing);
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        let mut patience = Patience::default();
        loop {
            self.progress();
            if let Some(event) = self.look() {
                return Some(event);
            }
            if !patience.wait(deadline) {
                return None;
            }
        }
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), u32> {
        let mut patience = Patience::default();
        loop {
            self.progress();
            let Some(to) = self.outgoing.iter().position(|queue| !queue.is_empty()) else {
                return Ok(());
            };
            if !patience.wait(deadline) {
                return Err(to as u32);
            }
        }
    }

    fn fail(&mut self) {
        self.failed.store(true, Ordering::SeqCst);
    }
}

impl Drop for MpiTransport {
    fn drop(&mut self) {
        // A rank that panics cannot do its part.
        if std::thread::panicking() {
            self.fail();
        }
    }
}

/// Polls politely: there may be more ranks than processors.
#[derive(Debug, Default)]
struct Patience {
    looks: u32,
    nap: Duration,
}

impl Patience {
    /// Waits for a moment, a longer one after many; says whether there is time before the deadline.
    fn wait(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        self.looks += 1;
        if self.looks <= EAGER_LOOKS {
            std::thread::yield_now();
        } else {
            self.nap = (self.nap * 2).clamp(NAP_MIN, NAP_MAX);
            std::thread::sleep(self.nap.min(left));
        }
        true
    }
}

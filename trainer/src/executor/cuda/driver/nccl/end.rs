//! How NCCL's communicators go: in a thread of their own.
//!
//! To abort or destroy a communicator, NCCL waits for its work on the GPU and for graphs that refer to
//! it, which may be for ever.

#![expect(unsafe_code, reason = "NCCL is called through pointers")]

use std::ffi::c_int;
use std::thread::JoinHandle;
use std::time::Duration;

use super::communicator::Bind;
use super::functions::{Comm, IN_PROGRESS, NcclFunctions, SUCCESS};
use super::pace::Pace;

/// Communicators on their way out.
pub(super) struct Going {
    functions: &'static NcclFunctions,
    comms: Vec<Comm>,
}

// SAFETY: any thread may use NCCL's communicators, one at a time, and nobody else has these.
unsafe impl Send for Going {}

/// The thread in which they go.
pub(super) struct Ending(Option<JoinHandle<()>>);

impl Ending {
    /// Whether it has ended, which is waited for so long.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let Some(thread) = &self.0 else { return true };
        Pace::new(limit).until(|| thread.is_finished().then_some(())).is_some()
    }
}

impl Going {
    /// These, in the order in which they go: those that were split off first.
    pub(super) const fn new(functions: &'static NcclFunctions, comms: Vec<Comm>) -> Self {
        Self { functions, comms }
    }

    /// Ends their work on the GPU, whatever other ranks do.
    pub(super) fn abort(self, bind: &Bind) -> Ending {
        self.in_thread(bind, Self::abort_here)
    }

    /// Lets their work end, which may take so long, and aborts them if it does not.
    pub(super) fn finish(self, bind: &Bind, limit: Duration) -> Ending {
        self.in_thread(bind, move |going| going.finish_here(limit))
    }

    fn in_thread(self, bind: &Bind, end: impl FnOnce(&Self) + Send + 'static) -> Ending {
        if self.comms.is_empty() {
            return Ending(None);
        }
        let bind = Bind::clone(bind);
        let thread = std::thread::Builder::new().name("end of NCCL".to_owned()).spawn(move || {
            // Otherwise NCCL would take the first GPU for that of this thread.
            if bind().is_ok() {
                end(&self);
            }
        });
        // Without a thread, or a GPU, all that could be done is to leave them behind.
        Ending(thread.ok())
    }

    fn abort_here(&self) {
        // All are told to stop before one is waited for: the work of one may wait on the stream for
        // that of another.
        // SAFETY: they are alive, and not used afterwards. Nothing can be done about failures.
        unsafe {
            (self.functions.group_start)();
            for comm in &self.comms {
                (self.functions.abort)(*comm);
            }
            (self.functions.group_end)();
        }
    }

    fn finish_here(&self, limit: Duration) {
        let pace = Pace::new(limit);
        for comm in &self.comms {
            // SAFETY: it is alive.
            let status = unsafe { (self.functions.finalize)(*comm) };
            let begun = status == SUCCESS || status == IN_PROGRESS;
            let finished = || match state(self.functions, *comm) {
                IN_PROGRESS => None,
                state => Some(state),
            };
            if !begun || pace.until(finished) != Some(SUCCESS) {
                return self.abort_here();
            }
        }
        for comm in &self.comms {
            // SAFETY: it is alive, its work has ended, and it is not used afterwards. Nothing can be
            // done about a failure.
            unsafe { (self.functions.destroy)(*comm) };
        }
    }
}

/// How a communicator is: in progress while the last call has not done what it does.
pub(super) fn state(functions: &NcclFunctions, comm: Comm) -> c_int {
    let mut state = SUCCESS;
    // SAFETY: the communicator is alive; one number is written.
    let status = unsafe { (functions.get_async_error)(comm, &raw mut state) };
    if status == SUCCESS { state } else { status }
}

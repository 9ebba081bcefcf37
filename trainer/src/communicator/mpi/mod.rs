//! Ranks as processes that an MPI launcher started.
//!
//! MPI is used as a transport of messages only: the algorithms, and so the bits of sums, are those
//! of ranks that are threads. After the start only the owner of the [`MpiTransport`] calls MPI, on
//! whatever thread it is; the library must allow calls from several threads one at a time
//! (`MPI_THREAD_SERIALIZED`).
//!
//! # How a program ends
//!
//! `MPI_Finalize` waits for all processes, and would wait for a dead one for ever. So the
//! [`MpiWorld`], which is kept until the end of the program, ends MPI in one of two ways when it is
//! dropped:
//!
//! - If all went well it finalizes.
//! - If communication failed, the thread is panicking, or the transport is still in use, it calls
//!   `MPI_Abort`, which ends all processes with [`EXIT_CODE`]. Print errors before: the process does
//!   not come back from it. It waits for [`LAST_WORDS_TIME`] first, in which other ranks, which heard of
//!   the failure at the same time, print theirs.
//!
//! Errors inside MPI itself, such as a connection that breaks, end all processes as the library's
//! default handler does. Most launchers end all processes when one dies, too.

mod transfer;
mod transport;

pub use transport::MpiTransport;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::mpi::Threading;
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::Communicator as _;

/// The exit code of processes ended because communication failed.
pub const EXIT_CODE: i32 = 5;

/// How long other ranks have to print their errors before all processes are ended.
pub const LAST_WORDS_TIME: Duration = Duration::from_millis(500);

/// Why MPI cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MpiError {
    /// It was initialized before.
    #[error("MPI was initialized before in this process: it can be only once")]
    Initialized,
    /// The library is not fit for threads.
    #[error(
        "the MPI library offers thread support `{0:?}`: the trainer communicates from a thread of \
         its own and needs `Serialized` or `Multiple`; use a library built with thread support"
    )]
    Threads(
        /// What it offers.
        Threading,
    ),
}

/// MPI, as long as the program uses it.
#[derive(Debug)]
pub struct MpiWorld {
    /// Shared with the transport.
    failed: Arc<AtomicBool>,
    // Its drop finalizes.
    _universe: Finalizes,
}

struct Finalizes(#[expect(dead_code, reason = "kept for its drop")] Universe);

impl std::fmt::Debug for Finalizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Finalizes")
    }
}

impl MpiWorld {
    /// Initializes MPI; the transport is that of this process among all that were started with it.
    ///
    /// # Errors
    /// It was initialized before, or cannot be called from threads.
    pub fn initialize() -> Result<(Self, MpiTransport), MpiError> {
        let (universe, threads) =
            ::mpi::initialize_with_threading(Threading::Multiple).ok_or(MpiError::Initialized)?;
        if !matches!(threads, Threading::Serialized | Threading::Multiple) {
            return Err(MpiError::Threads(threads));
        }
        let failed = Arc::new(AtomicBool::new(false));
        let transport = MpiTransport::new(Arc::clone(&failed));
        Ok((Self { failed, _universe: Finalizes(universe) }, transport))
    }
}

impl MpiWorld {
    /// Ends all processes with `code`, for a rank that fails alone: the others would wait for it.
    /// What they have to say themselves, they have a moment for.
    pub fn abort(self, code: i32) -> ! {
        std::thread::sleep(LAST_WORDS_TIME);
        SimpleCommunicator::world().abort(code)
    }
}

impl Drop for MpiWorld {
    fn drop(&mut self) {
        let in_use = Arc::strong_count(&self.failed) > 1;
        if self.failed.load(Ordering::SeqCst) || in_use || std::thread::panicking() {
            std::thread::sleep(LAST_WORDS_TIME);
            SimpleCommunicator::world().abort(EXIT_CODE);
        }
    }
}

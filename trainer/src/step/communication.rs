//! The thread that communicates while the main thread computes.

use std::fmt;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::communicator::Communicator;

type Job = Box<dyn FnOnce(&mut dyn Communicator) + Send>;

/// A thread that owns a rank's communicator and does what it is asked, one after the other.
///
/// Dropping it lets it finish what it does, and ends it.
pub struct CommunicationThread {
    rank: u32,
    world: u32,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// The communication thread has ended, which only a panic in it can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the communication thread has ended")]
pub struct ThreadGone;

/// A result to come.
#[derive(Debug)]
pub struct Pending<T>(mpsc::Receiver<T>);

impl<T> Pending<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// The thread has ended without it.
    pub fn wait(self) -> Result<T, ThreadGone> {
        self.0.recv().map_err(|_| ThreadGone)
    }
}

impl CommunicationThread {
    /// Starts the thread of `communicator`.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(communicator: Box<dyn Communicator>) -> std::io::Result<Self> {
        let (rank, world) = (communicator.rank(), communicator.world());
        let (sender, jobs) = mpsc::channel::<Job>();
        let mut communicator = communicator;
        let thread = std::thread::Builder::new()
            .name(format!("communication-{rank}"))
            .spawn(move || jobs.into_iter().for_each(|job| job(&mut *communicator)))?;
        Ok(Self { rank, world, jobs: Some(sender), thread: Some(thread) })
    }

    /// This rank.
    #[must_use]
    pub const fn rank(&self) -> u32 {
        self.rank
    }

    /// How many ranks there are.
    #[must_use]
    pub const fn world(&self) -> u32 {
        self.world
    }

    /// Asks for `job` after all that was asked for before.
    pub fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Communicator) -> T + Send + 'static,
    ) -> Pending<T> {
        let (sender, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |communicator| {
            // Whoever asked may have gone.
            let _ = sender.send(job(communicator));
        });
        if let Some(jobs) = &self.jobs {
            // If the thread has ended, so has the result's sender, which `wait` reports.
            let _ = jobs.send(job);
        }
        Pending(result)
    }
}

impl Drop for CommunicationThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its hook.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for CommunicationThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, world, .. } = self;
        write!(f, "CommunicationThread(rank {rank} of {world})")
    }
}

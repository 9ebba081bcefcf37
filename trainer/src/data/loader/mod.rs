//! Batches prepared ahead of the training step, by threads.
//!
//! Threads take one sample after the other of an epoch's order and write it into its place of its
//! batch; at most a fixed number of batches is under way or waiting. Batches come out in order and
//! are the same, bit for bit, for any number of threads.
//!
//! A sample that cannot be read or decoded is skipped, and its place taken by the next index of the
//! dataset (after the last, the first) that can: a rule that every run repeats. Each skip is
//! reported with its batch; one more than the limit ends the epoch with an error. For evaluations,
//! where a replacement would count twice, take a limit of 0.

mod error;
mod worker;

pub use error::LoaderError;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use self::worker::{Building, Job};
use super::augment::Preparation;
use super::sampler::EpochOrder;
use super::source::Source;

/// How hard a loader works, and how much it puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderSettings {
    /// Threads.
    pub workers: NonZeroUsize,
    /// Batches under way or waiting at most: this many batches of memory.
    pub prefetch: NonZeroUsize,
    /// Samples that may be skipped in an epoch.
    pub skips_max: u32,
    /// Whether inputs are bytes, to be normalised where they are computed with.
    pub as_bytes: bool,
}

/// The inputs of a batch, one after the other, each of [`Preparation::shape`].
#[derive(Debug, Clone, PartialEq)]
pub enum Images {
    /// Normalised, in the layout of the preparation.
    Numbers(Vec<f32>),
    /// As decoded, in the layout `height × width × channels`.
    Bytes(Vec<u8>),
}

/// A sample that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Its index in the dataset.
    pub index: u32,
    /// Its file, or shard and key.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Inputs of one step of one rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `labels.len()` inputs.
    pub images: Images,
    /// The class of each.
    pub labels: Vec<u32>,
    /// The index of each in its dataset.
    pub indices: Vec<u32>,
    /// What was left out, in the order of the places it left.
    pub skipped: Vec<Skip>,
}

/// One epoch's batches, in order. Dropping it stops and joins its threads.
///
/// After an error there are no more batches.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    skips_max: u32,
    skips: u32,
    ended: bool,
}

/// What threads and the consumer share.
struct Shared {
    job: Job,
    state: Mutex<State>,
    /// There may be room for another batch, or it is time to stop.
    room: Condvar,
    /// A batch may be complete.
    complete: Condvar,
}

struct State {
    /// The next place of the order to prepare.
    next: usize,
    /// Batches handed out.
    taken: usize,
    /// Batches begun and not handed out, oldest first.
    open: VecDeque<Arc<Building>>,
    /// Memory of batches that have been used, for the next ones.
    spare: Vec<Images>,
    stopped: bool,
}

/// The lock's content; what a thread that panicked left is complete, as nothing under a lock panics
/// halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loader {
    /// Starts preparing the batches of an epoch.
    ///
    /// `seed` decides the random part of the preparation, with the epoch and each sample's index.
    ///
    /// # Errors
    ///
    /// When the order is not one of this dataset, or a thread cannot be started.
    pub fn start(
        source: Arc<dyn Source>,
        preparation: Arc<Preparation>,
        order: EpochOrder,
        seed: u64,
        settings: LoaderSettings,
    ) -> Result<Self, LoaderError> {
        let samples = source.len();
        if let Some(&index) = order.indices.iter().find(|&&index| index >= samples) {
            return Err(LoaderError::Order { index, samples });
        }
        if order.batch == 0 {
            return Err(LoaderError::EmptyBatch);
        }
        let LoaderSettings { workers, prefetch, skips_max, as_bytes } = settings;
        let prefetch = prefetch.get();
        let job = Job { source, preparation, order, seed, skips_max, prefetch, as_bytes };
        let state =
            State { next: 0, taken: 0, open: VecDeque::new(), spare: Vec::new(), stopped: false };
        let (state, room, complete) = (Mutex::new(state), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { job, state, room, complete });
        let mut loader = Self { shared, threads: Vec::new(), skips_max, skips: 0, ended: false };
        for number in 0..workers.get() {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new()
                .name(format!("input {number}"))
                .spawn(move || shared.work())
                .map_err(|error| LoaderError::Thread(error.to_string()))?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// Gives a batch's memory back, to be filled again.
    pub fn recycle(&self, batch: Batch) {
        let mut state = lock(&self.shared.state);
        if state.spare.len() < self.shared.job.prefetch {
            state.spare.push(batch.images);
        }
    }

    /// Whether the next batch is there already; false at the end. A step that finds none waits.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = lock(&self.shared.state);
        state.open.front().is_some_and(|batch| batch.is_complete())
    }

    /// Waits for the next batch; none at the end.
    fn wait(&self) -> Option<Result<Batch, LoaderError>> {
        let mut state = lock(&self.shared.state);
        if state.taken == self.shared.job.order.batches() {
            return None;
        }
        loop {
            if state.open.front().is_some_and(|batch| batch.is_complete()) {
                break;
            }
            state = self.shared.complete.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.taken += 1;
        let batch = state.open.pop_front();
        drop(state);
        self.shared.room.notify_all();
        batch.map(|batch| batch.take())
    }

    fn stop(&mut self) {
        self.ended = true;
        lock(&self.shared.state).stopped = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // Panics of the work itself are caught, and an error has been made of them.
            let _ = thread.join();
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut result = self.wait();
        if let Some(Ok(batch)) = &result {
            // Counted here, where batches are in order, so that every run fails at the same one.
            self.skips = self.skips.saturating_add(batch.skipped.len() as u32);
            if self.skips > self.skips_max
                && let Some(last) = batch.skipped.last().cloned()
            {
                let (skips, skips_max) = (self.skips, self.skips_max);
                result = Some(Err(LoaderError::Skips { skips, skips_max, last }));
            }
        }
        if !matches!(result, Some(Ok(_))) {
            self.stop();
        }
        result
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;

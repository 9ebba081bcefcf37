//! What the threads do.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Batch, Images, LoaderError, Shared, Skip, lock};
use crate::data::augment::{Preparation, Prepared, Resizing, SampleKey};
use crate::data::sampler::EpochOrder;
use crate::data::source::Source;

/// What is to be done in an epoch.
pub(super) struct Job {
    pub(super) source: Arc<dyn Source>,
    pub(super) preparation: Arc<Preparation>,
    pub(super) order: EpochOrder,
    pub(super) seed: u64,
    pub(super) skips_max: u32,
    pub(super) prefetch: usize,
    pub(super) as_bytes: bool,
}

/// A batch being filled.
pub(super) struct Building {
    /// Places not filled yet; apart, so that looking does not wait for who is writing.
    left: AtomicUsize,
    filling: Mutex<Filling>,
}

struct Filling {
    batch: Batch,
    /// The place of each skip, as they come in any order.
    skip_places: Vec<(usize, Skip)>,
    failure: Option<LoaderError>,
}

/// Memory of this size: that which was used before, if it is enough. Fresh zeros cost nothing until
/// they are written; growing would, under the lock.
fn sized<T: Clone + Default>(mut spare: Vec<T>, size: usize) -> Vec<T> {
    if spare.len() < size {
        return vec![T::default(); size];
    }
    spare.truncate(size);
    spare
}

impl Building {
    fn new(samples: usize, numbers: usize, as_bytes: bool, spare: Option<Images>) -> Self {
        let size = samples * numbers;
        let images = match (spare, as_bytes) {
            (Some(Images::Numbers(spare)), false) => Images::Numbers(sized(spare, size)),
            (_, false) => Images::Numbers(vec![0.0; size]),
            (Some(Images::Bytes(spare)), true) => Images::Bytes(sized(spare, size)),
            (_, true) => Images::Bytes(vec![0; size]),
        };
        let (labels, indices) = (vec![0; samples], vec![0; samples]);
        let batch = Batch { images, labels, indices, skipped: Vec::new() };
        let filling = Filling { batch, skip_places: Vec::new(), failure: None };
        Self { left: AtomicUsize::new(samples), filling: Mutex::new(filling) }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// The batch, or why there is none; leaves nothing behind.
    pub(super) fn take(&self) -> Result<Batch, LoaderError> {
        let mut filling = lock(&self.filling);
        if let Some(failure) = filling.failure.take() {
            return Err(failure);
        }
        let mut skips = std::mem::take(&mut filling.skip_places);
        // Stable: several skips of one place stay in the order of the attempts.
        skips.sort_by_key(|(place, _)| *place);
        Ok(Batch {
            images: std::mem::replace(&mut filling.batch.images, Images::Bytes(Vec::new())),
            labels: std::mem::take(&mut filling.batch.labels),
            indices: std::mem::take(&mut filling.batch.indices),
            skipped: skips.into_iter().map(|(_, skip)| skip).collect(),
        })
    }

    /// Puts a sample into its place; returns whether the batch is complete.
    fn put(&self, place: usize, preparation: &Preparation, outcome: Outcome) -> bool {
        let numbers = preparation.numbers();
        let mut filling = lock(&self.filling);
        match outcome.sample {
            Ok(Some((index, label, prepared))) => {
                let images = &mut filling.batch.images;
                let range = place * numbers..(place + 1) * numbers;
                let write = AssertUnwindSafe(|| match images {
                    Images::Numbers(images) => preparation.write(&prepared, &mut images[range]),
                    Images::Bytes(images) => preparation.write_bytes(&prepared, &mut images[range]),
                });
                if let Err(panic) = catch_unwind(write) {
                    let (name, message) = (format!("sample {index}"), message(panic.as_ref()));
                    filling.failure = Some(LoaderError::Panic { index, name, message });
                }
                filling.batch.labels[place] = label;
                filling.batch.indices[place] = index;
            }
            // More skips than an epoch may have: whoever takes the batch counts and fails.
            Ok(None) => {}
            Err(failure) => filling.failure = filling.failure.take().or(Some(failure)),
        }
        filling.skip_places.extend(outcome.skipped.into_iter().map(|skip| (place, skip)));
        drop(filling);
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// What became of a place of the order.
struct Outcome {
    /// Index, label and image; none if too many had to be skipped.
    sample: Result<Option<(u32, u32, Prepared)>, LoaderError>,
    skipped: Vec<Skip>,
}

impl Job {
    /// Prepares the sample at `index`, or the next that can be.
    fn prepare(&self, index: u32, resizing: &mut Resizing) -> Outcome {
        let mut skipped = Vec::new();
        let mut at = index;
        loop {
            let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(at, resizing)));
            let reason = match attempt {
                Ok(Ok((label, prepared))) => {
                    return Outcome { sample: Ok(Some((at, label, prepared))), skipped };
                }
                Ok(Err(reason)) => reason,
                Err(panic) => {
                    *resizing = Resizing::default();
                    let (name, message) = (self.name(at), message(panic.as_ref()));
                    let failure = LoaderError::Panic { index: at, name, message };
                    return Outcome { sample: Err(failure), skipped };
                }
            };
            skipped.push(Skip { index: at, name: self.name(at), reason });
            if skipped.len() as u64 > u64::from(self.skips_max) {
                return Outcome { sample: Ok(None), skipped };
            }
            at = if at + 1 < self.source.len() { at + 1 } else { 0 };
        }
    }

    fn name(&self, index: u32) -> String {
        let name = catch_unwind(AssertUnwindSafe(|| self.source.name(index)));
        name.unwrap_or_else(|_| format!("sample {index}"))
    }

    fn attempt(&self, index: u32, resizing: &mut Resizing) -> Result<(u32, Prepared), String> {
        let sample = self.source.read(index).map_err(|error| error.to_string())?;
        let key = SampleKey { seed: self.seed, epoch: self.order.epoch, index };
        self.preparation
            .prepare(sample.payload, key, resizing)
            .map(|prepared| (sample.label, prepared))
            .map_err(|error| error.to_string())
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

impl Shared {
    /// Prepares places of the order until there are none left or it is time to stop.
    pub(super) fn work(&self) {
        let mut resizing = Resizing::default();
        while let Some((building, place, index)) = self.claim() {
            let outcome = self.job.prepare(index, &mut resizing);
            if building.put(place, &self.job.preparation, outcome) {
                // Taken and left at once: a consumer that saw the batch incomplete waits by now.
                drop(lock(&self.state));
                self.complete.notify_all();
            }
        }
    }

    /// The next place to prepare: its batch, its place there and the sample's index.
    fn claim(&self) -> Option<(Arc<Building>, usize, u32)> {
        let Job { order, preparation, prefetch, as_bytes, .. } = &self.job;
        let size = order.batch as usize;
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            let index = *order.indices.get(state.next)?;
            let (batch, place) = (state.next / size, state.next % size);
            let ahead = batch - state.taken;
            if ahead < *prefetch {
                if ahead == state.open.len() {
                    let samples = size.min(order.indices.len() - batch * size);
                    let (numbers, spare) = (preparation.numbers(), state.spare.pop());
                    let building = Building::new(samples, numbers, *as_bytes, spare);
                    state.open.push_back(Arc::new(building));
                }
                let building = Arc::clone(state.open.get(ahead)?);
                state.next += 1;
                return Some((building, place, index));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

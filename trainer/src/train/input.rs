//! How fast images come, by one worker.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use super::{Setup, TrainError};
use crate::config::DeviceName;
use crate::data::loader::{Loader, LoaderSettings};
use crate::data::sampler::{Purpose, Sampler};

/// Images of a batch at most: with more, one batch alone could take minutes.
const BATCH_MAX: u32 = 32;

impl Setup {
    /// Seconds that one worker takes to prepare an image that was read shortly before, and seconds
    /// that reading it takes the first time, over `images` images after the first `skip` of an epoch
    /// as rank 0 has it.
    ///
    /// # Errors
    /// Images cannot be read.
    pub fn time_input(&self, images: u32, skip: u32) -> Result<(f64, f64), TrainError> {
        let config = &self.config;
        let sampler = Sampler {
            samples: self.train.len(),
            batch: config.per_rank_batch(self.world),
            rank: 0,
            world: self.world,
            seed: config.seed,
            purpose: Purpose::Training,
        };
        let mut order = sampler.epoch(0)?;
        order.batch = order.batch.clamp(1, BATCH_MAX);
        let count = order.indices.len().max(1);
        order.indices.rotate_left(skip as usize % count);
        let batch = order.batch as usize;
        order.indices.truncate((images as usize / batch).max(1) * batch);
        let indices = order.indices.clone();
        // First the reading: what was read once comes from memory then.
        let start = Instant::now();
        for &index in &indices {
            self.train.read(index)?;
        }
        let read_s = start.elapsed().as_secs_f64() / indices.len().max(1) as f64;
        let settings = LoaderSettings {
            workers: NonZeroUsize::MIN,
            prefetch: config.data.prefetch(),
            skips_max: config.data.corrupt_max(),
            as_bytes: config.training.device == DeviceName::Cuda,
        };
        let (source, preparation) = (Arc::clone(&self.train), Arc::clone(&self.train_preparation));
        let start = Instant::now();
        let loader = Loader::start(source, preparation, order, config.seed, settings)?;
        let mut prepared = 0;
        for batch in loader {
            prepared += batch?.labels.len();
        }
        let decode_s = start.elapsed().as_secs_f64() / prepared.max(1) as f64;
        Ok((decode_s, read_s))
    }
}

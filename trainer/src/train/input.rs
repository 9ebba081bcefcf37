//! How fast images come, by one worker.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use super::{Setup, TrainError};
use crate::config::DeviceName;
use crate::data::loader::{Loader, LoaderSettings};
use crate::data::sampler::{Purpose, Sampler};

impl Setup {
    /// Seconds that one worker takes to read and prepare an image, and seconds that reading alone
    /// takes, over the first `images` images of an epoch as rank 0 has it, in whole batches.
    ///
    /// # Errors
    /// Images cannot be read.
    pub fn time_input(&self, images: u32) -> Result<(f64, f64), TrainError> {
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
        let batch = sampler.batch.max(1);
        order.indices.truncate((images.div_ceil(batch) * batch) as usize);
        let indices = order.indices.clone();
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
        let both_s = start.elapsed().as_secs_f64() / prepared.max(1) as f64;
        let start = Instant::now();
        for &index in &indices {
            self.train.read(index)?;
        }
        let read_s = start.elapsed().as_secs_f64() / indices.len().max(1) as f64;
        Ok((both_s, read_s))
    }
}

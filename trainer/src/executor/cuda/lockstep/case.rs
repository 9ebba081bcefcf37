//! Networks that are compared, and fresh numbers for them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use candle_core::{Device as CandleDevice, Tensor};
use foretrain_sim::fusion::Fusion;
use foretrain_sim::random::{Streams, place_bits, place_uniform};
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::units::Bytes;
use foretrain_sim::workload::{Architecture, Shape, Size};
use rayon::ThreadPool;

use super::super::device::Device;
use super::super::executor::DeviceExecutor;
use super::{Lockstep, lockstep};
use crate::executor::cpu::CpuExecutor;
use crate::executor::{Batch, ExecutorError, ExecutorSettings, RunningStatistics};
use crate::model::Weights;
use crate::optimizer::Role;
use crate::plan::Plan;
use crate::plan::buckets::Buckets;

/// Buckets as training has them by default.
const BUCKET_BYTES: u64 = 25 << 20;

/// Streams of random numbers, by what they are for.
const IMAGES: u64 = 1;
const LABELS: u64 = 2;
const PARAMETERS: u64 = 3;
const STATISTICS: u64 = 4;

/// A network and its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The network.
    pub architecture: Architecture,
    /// Its images and classes.
    pub size: Size,
    /// Images of a step.
    pub images: usize,
    /// Images that share batch-norm statistics, if not all do.
    pub batch_norm_span: Option<NonZeroUsize>,
}

/// The networks whose operations are compared, by name: `images` images of `side` pixels of ResNet-50,
/// and smaller ones of what has other operations: groups of channels, overlapping pools, biases,
/// dropout, batch norms over parts of a batch.
#[must_use]
pub fn cases(side: u64, images: usize) -> [(&'static str, Case); 3] {
    let architecture = Architecture::Resnet50;
    let size = Size { image: Shape::new(3, side, side), ..architecture.published_size() };
    let resnet50 = Case { architecture, size, images, batch_norm_span: None };
    let [alexnet, small] = others();
    [("resnet50", resnet50), alexnet, small]
}

/// The networks whose training steps are compared, by name.
#[must_use]
pub fn steps_cases() -> [(&'static str, Case); 2] {
    let architecture = Architecture::Resnet50;
    let size = Size { image: Shape::new(3, 64, 64), ..architecture.published_size() };
    let resnet50 = Case { architecture, size, images: 16, batch_norm_span: None };
    let [_, small] = others();
    [small, ("resnet50", resnet50)]
}

fn others() -> [(&'static str, Case); 2] {
    let architecture = Architecture::AlexnetBn { after_pool5: true };
    let size = architecture.published_size();
    let alexnet = Case { architecture, size, images: 4, batch_norm_span: None };
    let architecture = Architecture::SmallResnet { blocks_per_stage: 1 };
    let size = architecture.published_size();
    let batch_norm_span = NonZeroUsize::new(6);
    let small = Case { architecture, size, images: 12, batch_norm_span };
    [("alexnet-bn", alexnet), ("resnet-8", small)]
}

impl Case {
    /// Plan and buckets.
    ///
    /// # Errors
    /// The network cannot be planned.
    pub fn plan(&self) -> Result<(Arc<Plan>, Arc<Buckets>), ExecutorError> {
        let refuse = |error: &dyn std::fmt::Display| ExecutorError::Plan(error.to_string());
        let network = self.architecture.network(self.size);
        let plan = Plan::new(&network).map_err(|error| refuse(&error))?;
        let rule = Fusion::Threshold(Bytes::new(BUCKET_BYTES));
        let buckets = Buckets::new(&plan, &network, &rule, 2).map_err(|error| refuse(&error))?;
        Ok((Arc::new(plan), Arc::new(buckets)))
    }

    /// What executors are made with. Running statistics follow fast, so that those of one pass are
    /// enough to evaluate with.
    ///
    /// # Errors
    /// There are no images.
    pub fn settings(&self) -> Result<ExecutorSettings, ExecutorError> {
        let none = ExecutorError::Batch { found: 0, capacity: 0, span: 1 };
        Ok(ExecutorSettings {
            batch: NonZeroUsize::new(self.images).ok_or(none)?,
            batch_norm_span: self.batch_norm_span,
            batch_norm_momentum: 0.9,
            batch_norm_epsilon: 1e-5,
            label_smoothing: 0.1,
            dropout_rate: 0.5,
        })
    }

    /// Runs [`lockstep`] on `device`, which computes in `format`, and on the threads of this machine.
    ///
    /// # Errors
    /// The network cannot be run, or the device failed.
    pub fn lockstep<D: Device>(
        &self,
        device: D,
        format: NumberFormat,
        seed: u64,
        threads: &Arc<ThreadPool>,
    ) -> Result<Lockstep, ExecutorError> {
        let (plan, buckets) = self.plan()?;
        let settings = self.settings()?;
        let (of_cpu, of_device) = (Arc::clone(&plan), Arc::clone(&buckets));
        let mut cpu = CpuExecutor::new(of_cpu, of_device, settings, Arc::clone(threads))?;
        let mut device = DeviceExecutor::new(device, plan, buckets, settings, format)?;
        lockstep(self, (&mut cpu, &mut device), seed)
    }

    /// Images between −2 and 2, given through `round`, and labels.
    ///
    /// # Errors
    /// candle refuses, as when memory runs out.
    pub fn batch(&self, seed: u64, round: impl Fn(f32) -> f32) -> Result<Batch, ExecutorError> {
        let refuse = |error: candle_core::Error| ExecutorError::Tensor(error.to_string());
        let shape = self.size.image;
        let (pixel_key, label_key) = (place_bits(seed, IMAGES), place_bits(seed, LABELS));
        let pixels = 0..self.images as u64 * shape.elements();
        let pixel = |at| round(place_uniform(pixel_key, at) as f32 * 4.0 - 2.0);
        let pixels: Vec<f32> = pixels.map(pixel).collect();
        let labels = 0..self.images as u64;
        let label = |image| (place_bits(label_key, image) % self.size.classes) as u32;
        let labels: Vec<u32> = labels.map(label).collect();
        let [height, width, channels] =
            [shape.height, shape.width, shape.channels].map(|size| size as usize);
        let dimensions = (self.images, height, width, channels);
        Ok(Batch {
            images: Tensor::from_vec(pixels, dimensions, &CandleDevice::Cpu).map_err(refuse)?,
            labels: Tensor::from_vec(labels, self.images, &CandleDevice::Cpu).map_err(refuse)?,
        })
    }

    /// First weights, but that biases are not 0, and that batch norms multiply by 0.5 to 1.5 and add
    /// −0.5 to 0.5, so that what they do is seen.
    #[must_use]
    pub fn weights(&self, plan: &Arc<Plan>, seed: u64) -> Weights {
        let mut weights = Weights::initial(plan, &Streams::new(seed), false);
        let key = place_bits(seed, PARAMETERS);
        for (id, values) in weights.masters_mut() {
            let key = place_bits(key, id.get() as u64);
            let size = match plan.parameters()[id.get()].role {
                Role::Weight => continue,
                Role::Bias => 0.2,
                Role::BatchNorm => 1.0,
            };
            for (at, value) in values.iter_mut().enumerate() {
                *value += (place_uniform(key, at as u64) as f32 - 0.5) * size;
            }
        }
        weights
    }

    /// Running means between −0.5 and 0.5 and variances between 0.5 and 1.5 of a batch norm.
    #[must_use]
    pub fn running_statistics(
        &self,
        channels: usize,
        batch_norm: usize,
        seed: u64,
    ) -> RunningStatistics {
        let key = place_bits(place_bits(seed, STATISTICS), batch_norm as u64);
        let number = |at: usize, least: f64| (place_uniform(key, at as u64) + least) as f32;
        RunningStatistics {
            mean: (0..channels).map(|at| number(at, -0.5)).collect(),
            variance: (0..channels).map(|at| number(channels + at, 0.5)).collect(),
        }
    }
}

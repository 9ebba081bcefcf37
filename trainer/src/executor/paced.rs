//! A device that is a replay: every instruction takes the time that was recorded, and computes
//! nothing.
//!
//! Communication, fusion, overlap, packing and the update are real, so that many ranks can share a
//! few cores, each as if it had an accelerator to itself: what is measured then is the communication.
//! Times come from a [profile](foretrain_sim::profile). Gradients are zeros, and losses are 0.
//!
//! Instructions end at moments that are planned from the start of the pass, so that what the system
//! takes too long to wake a thread does not add up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foretrain_sim::profile::ComputeProfile;
use foretrain_sim::recording::NumberFormat;
use half::{bf16, f16};

use super::{
    Batch, Executor, ExecutorError, ExecutorSettings, GradientBuffer, LossSum, Pass,
    RunningStatistics,
};
use crate::plan::buckets::Buckets;
use crate::plan::{ParameterId, Plan};

/// How long everything takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// What the host does before the forward pass.
    host: Duration,
    /// Forward and backward of each instruction.
    instructions: Vec<(Duration, Duration)>,
}

impl Pace {
    /// The pace of `plan` at `batch` images a rank, of a profile of the same instructions.
    ///
    /// # Errors
    /// The profile is of another network: says what differs.
    pub fn new(plan: &Plan, profile: &ComputeProfile, batch: u64) -> Result<Self, String> {
        let ours = plan.instructions().iter().map(|instruction| instruction.name.as_str());
        let theirs = profile.layers.iter().map(|layer| layer.name.as_str());
        if let Some((index, (ours, theirs))) =
            ours.zip(theirs).enumerate().find(|(_, (ours, theirs))| ours != theirs)
        {
            return Err(format!(
                "instruction {index} of this network is {ours}, and {theirs} in the profile of {}: \
                 expected a profile of the same network",
                profile.network
            ));
        }
        let (ours, theirs) = (plan.instructions().len(), profile.layers.len());
        if ours != theirs {
            return Err(format!(
                "this network has {ours} instructions, and the profile of {} has {theirs}: expected a \
                 profile of the same network",
                profile.network
            ));
        }
        let times = profile
            .compute_times(batch)
            .ok_or_else(|| "it has no layer times: calibrate again".to_owned())?;
        let time =
            |time: foretrain_sim::units::SimDuration| Duration::from_nanos(time.as_ps() / 1000);
        let mut layers =
            times.layers.iter().map(|layer| (time(layer.forward), time(layer.backward)));
        let host = layers.next().map_or(Duration::ZERO, |(host, _)| host);
        Ok(Self { host, instructions: layers.collect() })
    }
}

/// The device.
#[derive(Debug)]
pub struct PacedExecutor {
    plan: Arc<Plan>,
    settings: ExecutorSettings,
    pace: Pace,
    /// Gradients of each bucket, unless they are away.
    buckets: Vec<Option<GradientBuffer>>,
    statistics: Vec<RunningStatistics>,
    /// When what was begun is over.
    until: Instant,
}

impl PacedExecutor {
    /// A device for a plan, whose gradients are in `format`.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        buckets: &Buckets,
        settings: ExecutorSettings,
        format: NumberFormat,
        pace: Pace,
    ) -> Self {
        let zeros = |elements| match format {
            NumberFormat::F32 => GradientBuffer::F32(vec![0.0; elements]),
            NumberFormat::F16 => GradientBuffer::F16(vec![f16::ZERO; elements]),
            NumberFormat::Bf16 => GradientBuffer::Bf16(vec![bf16::ZERO; elements]),
        };
        let buckets = buckets.all().iter().map(|bucket| Some(zeros(bucket.elements))).collect();
        let statistics = plan.batch_norms().iter().map(|norm| RunningStatistics {
            mean: vec![0.0; norm.channels],
            variance: vec![1.0; norm.channels],
        });
        let statistics = statistics.collect();
        Self { plan, settings, pace, buckets, statistics, until: Instant::now() }
    }

    /// Waits until what takes `time` is over.
    fn spend(&mut self, time: Duration) {
        self.until += time;
        let left = self.until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
    }
}

impl Executor for PacedExecutor {
    fn load_weights(
        &mut self,
        parameter: ParameterId,
        weights: &[f32],
    ) -> Result<(), ExecutorError> {
        let expected = self.plan.parameters()[parameter.get()].elements();
        if weights.len() == expected {
            return Ok(());
        }
        Err(ExecutorError::Size { what: "weights", expected, found: weights.len() })
    }

    fn load_batch(&mut self, batch: &Batch) -> Result<(), ExecutorError> {
        let (shape, classes) = (self.plan.image_shape(), self.plan.classes());
        let settings = self.settings;
        self.until = Instant::now();
        batch.read(shape, |images, labels| {
            settings.check_batch(images.len(), labels, shape, classes)
        })?;
        self.spend(self.pace.host);
        Ok(())
    }

    fn forward(&mut self, instruction: usize, _: Pass) -> Result<(), ExecutorError> {
        self.spend(self.pace.instructions[instruction].0);
        Ok(())
    }

    fn backward(&mut self, instruction: usize, _: Pass) -> Result<(), ExecutorError> {
        self.spend(self.pace.instructions[instruction].1);
        Ok(())
    }

    fn loss(&mut self) -> Result<LossSum, ExecutorError> {
        Ok(LossSum::default())
    }

    fn take_bucket(&mut self, bucket: usize) -> Result<GradientBuffer, ExecutorError> {
        self.buckets[bucket].take().ok_or(ExecutorError::BucketAway(bucket))
    }

    fn return_bucket(
        &mut self,
        bucket: usize,
        values: GradientBuffer,
    ) -> Result<(), ExecutorError> {
        self.buckets[bucket] = Some(values);
        Ok(())
    }

    fn running_statistics(
        &mut self,
        batch_norm: usize,
    ) -> Result<RunningStatistics, ExecutorError> {
        Ok(self.statistics[batch_norm].clone())
    }

    fn set_running_statistics(
        &mut self,
        batch_norm: usize,
        statistics: &RunningStatistics,
    ) -> Result<(), ExecutorError> {
        self.statistics[batch_norm] = statistics.clone();
        Ok(())
    }
}

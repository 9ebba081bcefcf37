//! Whole training steps on a device beside the same steps on the CPU.

use std::sync::Arc;
use std::time::Instant;

use foretrain_sim::random::place_bits;
use foretrain_sim::recording::NumberFormat;
use half::{bf16, f16};
use rayon::ThreadPool;
use serde::Serialize;

use super::super::device::Device;
use super::super::executor::DeviceExecutor;
use super::super::step::{DeviceStep, StepNumbers};
use super::Case;
use crate::communicator::{CommunicatorSettings, HostCommunicator, ThreadTransport};
use crate::executor::cpu::{CpuExecutor, Element};
use crate::executor::{Batch, Executor, ExecutorError};
use crate::loss_scale::{LossScaleConfig, LossScaler, StaticScale, Verdict};
use crate::model::Weights;
use crate::optimizer::{Lars, Optimizer, Rule};
use crate::step::{
    CommunicationThread, HostReplica, ReplicaSettings, StepError, StepOutcome, Timeline,
};

/// How far losses and weights may be apart after ten steps.
///
/// Here errors add up, from layer to layer and from step to step, and gradients that cancel keep only
/// them; the same steps on the CPU in two formats say how far. The limits are for the mean loss of a
/// step, as a part of it, and for how far all weights have come, as a part of that.
#[must_use]
pub const fn limits(format: NumberFormat) -> Limits {
    match format {
        NumberFormat::F32 => Limits { loss: 1e-3, movement: 2e-2 },
        NumberFormat::F16 => Limits { loss: 2e-2, movement: 2e-1 },
        NumberFormat::Bf16 => Limits { loss: 5e-2, movement: 5e-1 },
    }
}

/// See [`limits`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Of |device − CPU| / |CPU| of a step's mean loss.
    pub loss: f64,
    /// Of ‖device − CPU‖ / ‖CPU‖ of how far all weights have come from the first ones.
    pub movement: f64,
}

/// What a step came to on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepPair {
    /// The mean loss of the CPU's images.
    pub cpu_loss: f64,
    /// The mean loss of the device's images.
    pub device_loss: f64,
    /// Whether gradients overflowed on the CPU, so that no weight changed.
    pub cpu_skipped: bool,
    /// The same on the device.
    pub device_skipped: bool,
}

/// How far a tensor's ways on both sides are apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Movement {
    /// The parameter.
    pub parameter: String,
    /// ‖device − CPU‖ / ‖CPU‖ of how far it has come.
    pub error: f64,
}

/// What training came to on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steps {
    /// The format in which both computed.
    pub format: NumberFormat,
    /// Images of a step.
    pub images: usize,
    /// What images, labels and weights follow from.
    pub seed: u64,
    /// Step by step.
    pub steps: Vec<StepPair>,
    /// The largest error of a step's loss; no number (`null` in files) if one is not finite.
    pub loss_error: f64,
    /// The error of how far all weights have come; as above.
    pub movement_error: f64,
    /// What they must not exceed.
    pub limits: Limits,
    /// Tensor by tensor, without a limit.
    pub movements: Vec<Movement>,
}

impl Steps {
    /// Whether both skipped the same steps and stayed together, and weights moved.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.cpu_skipped == step.device_skipped)
            && self.steps.iter().any(|step| !step.cpu_skipped)
            && self.loss_error <= self.limits.loss
            && self.movement_error <= self.limits.movement
    }
}

/// Training by LARS on the same images step after step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// What is trained.
    pub case: Case,
    /// How often.
    pub steps: u64,
    /// The format in which both sides compute.
    pub format: NumberFormat,
    /// What images, labels and weights follow from.
    pub seed: u64,
}

impl Training {
    fn rule() -> Rule {
        Rule::Lars(Lars { coefficient: 1.0, momentum_correction: true, ..Lars::default() })
    }

    /// Small and rising, as at the start of a training.
    fn learning_rate(step: u64) -> f64 {
        0.002 * (step + 1) as f64
    }

    /// As large as keeps the smallest gradients of f16, far from its largest numbers.
    const fn loss_scale(&self) -> LossScaleConfig {
        let scale = match self.format {
            NumberFormat::F16 => 1024.0,
            NumberFormat::Bf16 | NumberFormat::F32 => 1.0,
        };
        LossScaleConfig::Static(StaticScale { scale })
    }

    /// Runs both sides.
    ///
    /// # Errors
    /// The network cannot be run, or the device failed. What is computed wrongly is no error but stands
    /// in the result.
    pub fn compare<D: Device>(
        &self,
        device: D,
        threads: &Arc<ThreadPool>,
    ) -> Result<Steps, ExecutorError> {
        let (plan, buckets) = self.case.plan()?;
        let first = self.case.weights(&plan, self.seed);
        let batch = self.case.batch(self.seed, |value| value)?;
        let (of_cpu, weights) = match self.format {
            NumberFormat::F16 => self.on_cpu::<f16>(&first, &batch, threads)?,
            NumberFormat::Bf16 => self.on_cpu::<bf16>(&first, &batch, threads)?,
            NumberFormat::F32 => self.on_cpu::<f32>(&first, &batch, threads)?,
        };
        let settings = self.case.settings()?;
        let executor =
            DeviceExecutor::new(device, Arc::clone(&plan), buckets, settings, self.format)?;
        let (rule, scale) = (Self::rule(), self.loss_scale());
        let mut step = DeviceStep::new(executor, Arc::clone(&plan), &rule, scale)?;
        step.load_weights(&first)?;
        let mut steps = Vec::new();
        for (number, cpu) in of_cpu.into_iter().enumerate() {
            let numbers = StepNumbers {
                learning_rate: Self::learning_rate(number as u64),
                dropout_key: place_bits(self.seed, number as u64),
                first_image: 0,
                global_batch: self.case.images as u64,
            };
            let device = step.step(&batch, numbers).map_err(|error| match error {
                StepError::Executor(error) => error,
                other => refuse(&other),
            })?;
            let mean = |outcome: StepOutcome| outcome.loss.loss / self.case.images as f64;
            steps.push(StepPair {
                cpu_loss: mean(cpu),
                device_loss: mean(device),
                cpu_skipped: cpu.verdict == Verdict::Skip,
                device_skipped: device.verdict == Verdict::Skip,
            });
        }
        let mut movements = Vec::new();
        let mut of_all = [0.0; 2];
        let found = step.weights()?;
        for id in plan.parameter_ids() {
            let squares = squares(first.of(id), weights.of(id), found.of(id));
            of_all.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
            let parameter = plan.parameters()[id.get()].name.clone();
            movements.push(Movement { parameter, error: relative(squares) });
        }
        let loss_error = |step: &StepPair| (step.device_loss / step.cpu_loss - 1.0).abs();
        Ok(Steps {
            format: self.format,
            images: self.case.images,
            seed: self.seed,
            loss_error: steps.iter().map(loss_error).fold(0.0, largest),
            movement_error: relative(of_all),
            limits: limits(self.format),
            steps,
            movements,
        })
    }

    /// What each step came to, and the weights at the end.
    fn on_cpu<E: Element>(
        &self,
        first: &Weights,
        batch: &Batch,
        threads: &Arc<ThreadPool>,
    ) -> Result<(Vec<StepOutcome>, Weights), ExecutorError> {
        let (plan, buckets) = self.case.plan()?;
        let executor: Box<dyn Executor> = Box::new(CpuExecutor::<E>::new(
            Arc::clone(&plan),
            Arc::clone(&buckets),
            self.case.settings()?,
            Arc::clone(threads),
        )?);
        let transport = ThreadTransport::world(1).remove(0);
        let communicator = HostCommunicator::new(transport, CommunicatorSettings::default())
            .map_err(|error| refuse(&error))?;
        let mut replica = HostReplica::new(
            plan,
            buckets,
            ReplicaSettings {
                per_rank_batch: self.case.images as u32,
                wire: self.format,
                overlap: false,
                dropout_key: self.seed,
            },
            first.clone(),
            Optimizer::new(Self::rule()).map_err(|error| refuse(&error))?,
            LossScaler::new(self.loss_scale()).map_err(|error| refuse(&error))?,
            executor,
            CommunicationThread::start(Box::new(communicator)).map_err(|error| refuse(&error))?,
            Arc::clone(threads),
        )?;
        let mut timeline = Timeline::new(Instant::now(), 0);
        let step = |number| {
            let learning_rate = Self::learning_rate(number);
            replica
                .step(batch, number, learning_rate, &mut timeline)
                .map_err(|error| refuse(&error))
        };
        let steps = (0..self.steps).map(step).collect::<Result<Vec<_>, _>>()?;
        Ok((steps, replica.weights))
    }
}

fn refuse(error: &dyn std::fmt::Display) -> ExecutorError {
    ExecutorError::Plan(error.to_string())
}

/// ‖device − CPU‖² and ‖CPU − first‖².
fn squares(first: &[f32], cpu: &[f32], device: &[f32]) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for ((&first, &cpu), &device) in first.iter().zip(cpu).zip(device) {
        sums[0] += (f64::from(device) - f64::from(cpu)).powi(2);
        sums[1] += (f64::from(cpu) - f64::from(first)).powi(2);
    }
    sums
}

fn relative([apart, moved]: [f64; 2]) -> f64 {
    (apart / moved.max(f64::MIN_POSITIVE)).sqrt()
}

/// The larger one; what is no number if one is none.
fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

//! Whole training steps on a device beside the same steps on the CPU.
//!
//! Here errors add up, from layer to layer and from step to step, and gradients that nearly cancel keep
//! little else. How much is tolerable is measured in the same run: the same steps on the CPU in single
//! precision are the reference for both the CPU in the device's format and the device, and the device
//! may be little farther away than the CPU is.

use std::sync::Arc;
use std::time::Instant;

use foretrain_sim::random::{Streams, place_bits};
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

/// How many times as far as the CPU in half precision a device may be away from single precision: mean
/// losses, and how far all weights have come.
const FACTORS: [f64; 2] = [3.0, 2.0];
/// What is allowed on top, and in single precision alone, where only the order of sums differs.
const LEAST: [f64; 2] = [1e-3, 2e-2];

/// A step's mean losses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepLosses {
    /// On the CPU in single precision.
    pub single: f64,
    /// On the CPU in the device's format.
    pub cpu: f64,
    /// On the device.
    pub device: f64,
    /// Whether gradients overflowed on the CPU in the device's format, so that no weight changed.
    pub cpu_skipped: bool,
    /// The same on the device.
    pub device_skipped: bool,
}

/// How far the CPU in the device's format, and the device, are away from the CPU in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distance {
    /// The CPU's.
    pub cpu: f64,
    /// The device's; no number (`null` in files) if something on it is not finite.
    pub device: f64,
    /// What the device's must not exceed.
    pub limit: f64,
}

impl Distance {
    /// The limit follows from how far the CPU is away.
    const fn new([cpu, device]: [f64; 2], factor: f64, least: f64) -> Self {
        Self { cpu, device, limit: cpu * factor + least }
    }

    fn passed(&self) -> bool {
        self.device <= self.limit
    }
}

/// How far a tensor's ways are apart, as a part of its way on the CPU in single precision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Movement {
    /// The parameter.
    pub parameter: String,
    /// Of the CPU in the device's format.
    pub cpu: f64,
    /// Of the device.
    pub device: f64,
}

/// What training came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steps {
    /// The device's format.
    pub format: NumberFormat,
    /// Images of a step.
    pub images: usize,
    /// What images, labels and weights follow from.
    pub seed: u64,
    /// Step by step.
    pub steps: Vec<StepLosses>,
    /// Of losses: the mean over all steps, each as a part of the loss.
    pub losses: Distance,
    /// Of how far all weights have come from the first ones, as a part of that.
    pub movement: Distance,
    /// The same tensor by tensor, without a limit.
    pub movements: Vec<Movement>,
}

impl Steps {
    /// Whether the device skipped the same steps as the CPU, weights moved, and both distances are
    /// within their limits.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.cpu_skipped == step.device_skipped)
            && self.steps.iter().any(|step| !step.cpu_skipped)
            && self.losses.passed()
            && self.movement.passed()
    }
}

/// Training by LARS on the same images step after step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// What is trained.
    pub case: Case,
    /// How often.
    pub steps: u64,
    /// The device's format.
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
        0.0005 * (step + 1) as f64
    }

    /// As large as keeps the smallest gradients of f16, far from its largest numbers.
    const fn loss_scale(&self) -> LossScaleConfig {
        let scale = match self.format {
            NumberFormat::F16 => 1024.0,
            NumberFormat::Bf16 | NumberFormat::F32 => 1.0,
        };
        LossScaleConfig::Static(StaticScale { scale })
    }

    /// Runs both sides, from first weights as training has them, with γ = 0 at the ends of residual
    /// blocks.
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
        let first = Weights::initial(&plan, &Streams::new(self.seed), true);
        let batch = self.case.batch(self.seed, |value| value)?;
        let single = self.on_cpu::<f32>((NumberFormat::F32, &first), &batch, threads)?;
        let cpu = match self.format {
            NumberFormat::F16 => self.on_cpu::<f16>((self.format, &first), &batch, threads)?,
            NumberFormat::Bf16 => self.on_cpu::<bf16>((self.format, &first), &batch, threads)?,
            NumberFormat::F32 => single.clone(),
        };
        let settings = self.case.settings()?;
        let executor =
            DeviceExecutor::new(device, Arc::clone(&plan), buckets, settings, self.format)?;
        let (rule, scale) = (Self::rule(), self.loss_scale());
        let mut step = DeviceStep::new(executor, Arc::clone(&plan), &rule, scale)?;
        step.load_weights(&first)?;
        let mut steps = Vec::new();
        let mut apart = [0.0; 2];
        for (number, (single, cpu)) in (0..self.steps).zip(single.0.iter().zip(&cpu.0)) {
            let numbers = StepNumbers {
                learning_rate: Self::learning_rate(number),
                dropout_key: place_bits(self.seed, number),
                first_image: 0,
                global_batch: self.case.images as u64,
            };
            let device = step.step(&batch, numbers).map_err(|error| match error {
                StepError::Executor(error) => error,
                other => refuse(&other),
            })?;
            let mean = |outcome: &StepOutcome| outcome.loss.loss / self.case.images as f64;
            let losses = StepLosses {
                single: mean(single),
                cpu: mean(cpu),
                device: mean(&device),
                cpu_skipped: cpu.verdict == Verdict::Skip,
                device_skipped: device.verdict == Verdict::Skip,
            };
            for (sum, loss) in apart.iter_mut().zip([losses.cpu, losses.device]) {
                *sum += (loss / losses.single - 1.0).abs() / self.steps as f64;
            }
            steps.push(losses);
        }
        let mut movements = Vec::new();
        let (mut of_cpu, mut of_device) = ([0.0; 2], [0.0; 2]);
        let learnt = step.weights()?;
        for id in plan.parameter_ids() {
            let squares = |other: &[f32]| squares(first.of(id), single.1.of(id), other);
            let (cpu, device) = (squares(cpu.1.of(id)), squares(learnt.of(id)));
            add(&mut of_cpu, cpu);
            add(&mut of_device, device);
            let parameter = plan.parameters()[id.get()].name.clone();
            movements.push(Movement { parameter, cpu: relative(cpu), device: relative(device) });
        }
        let movement = [of_cpu, of_device].map(relative);
        Ok(Steps {
            format: self.format,
            images: self.case.images,
            seed: self.seed,
            steps,
            losses: Distance::new(apart, FACTORS[0], LEAST[0]),
            movement: Distance::new(movement, FACTORS[1], LEAST[1]),
            movements,
        })
    }

    /// What each step came to, and the weights at the end.
    fn on_cpu<E: Element>(
        &self,
        (format, first): (NumberFormat, &Weights),
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
                wire: format,
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

/// ‖other − single‖² and ‖single − first‖².
fn squares(first: &[f32], single: &[f32], other: &[f32]) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for ((&first, &single), &other) in first.iter().zip(single).zip(other) {
        sums[0] += (f64::from(other) - f64::from(single)).powi(2);
        sums[1] += (f64::from(single) - f64::from(first)).powi(2);
    }
    sums
}

fn add(sums: &mut [f64; 2], more: [f64; 2]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// A tensor that has not moved, as one whose gradients are all 0, is not divided by.
fn relative([apart, moved]: [f64; 2]) -> f64 {
    if apart == 0.0 { 0.0 } else { (apart / moved.max(f64::MIN_POSITIVE)).sqrt() }
}

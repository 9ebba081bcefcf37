//! Running a point: its steps, its epochs, its evaluations.

use std::fmt;

use super::input::InputRates;
use super::resolve::Case;
use super::spec::LastBatch;
use crate::collective::{
    Bench, CollectiveError, Engine, Folding, Method, Noise, Operation, TimingError,
};
use crate::compute::Device;
use crate::fusion::gradients;
use crate::network::{EdgeUse, NetworkModel as _};
use crate::random::Streams;
use crate::step::{
    Account, InputPipeline, StepError, StepSetup, StepTimes, run_arrays, run_events,
};
use crate::units::{Bytes, SimDuration};

/// Why a point could not be simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimulationError {
    /// The all-reduce cannot be scheduled.
    Collective(CollectiveError),
    /// The event engine's run did not end well.
    Step(StepError),
    /// The all-reduce of an evaluation cannot be timed.
    Evaluation(TimingError),
}

impl fmt::Display for SimulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collective(error) => error.fmt(f),
            Self::Step(error) => error.fmt(f),
            Self::Evaluation(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SimulationError {}

impl Case {
    /// The engine that runs it where `asked` is asked for: flows need the event engine.
    #[must_use]
    pub fn engine(&self, asked: Engine) -> Engine {
        let is_flowing = self.network.flows().is_some() && !matches!(self.method, Method::Nccl(_));
        if is_flowing && self.accelerators > 1 { Engine::Events } else { asked }
    }

    /// Simulates `steps` steps, telling `observer` what each rank did when; returns what the edges
    /// carried in all, where messages are flows.
    ///
    /// # Errors
    /// If it cannot be simulated; a point of a checked scenario can.
    pub fn simulate(
        &self,
        engine: Engine,
        steps: u32,
        mut observer: impl FnMut(u32, &StepTimes),
    ) -> Result<Vec<EdgeUse>, SimulationError> {
        let engine = self.engine(engine);
        let gradients = gradients(&self.model, &self.compute, self.wire_element_bytes);
        let setup = StepSetup {
            layout: self.layout(),
            compute: &self.compute,
            gradients: &gradients,
            fusion: self.fusion.clone(),
            overlap: self.overlap,
            plan: &|bytes| self.all_reduce(bytes),
            folding: if engine == Engine::Folded { Folding::On } else { Folding::Off },
            network: &self.network,
            packing: self.packing,
            input: self.input.as_ref().map(|rates| self.pipeline(rates)),
            jitter: &self.jitter,
        };
        let streams = Streams::new(self.seed);
        match engine {
            Engine::Folded | Engine::Arrays => {
                run_arrays(&setup, &streams, steps, observer)
                    .map_err(SimulationError::Collective)?;
                Ok(Vec::new())
            }
            Engine::Events => {
                let run = run_events(&setup, &streams, steps).map_err(SimulationError::Step)?;
                (0..).zip(&run.steps).for_each(|(step, times)| observer(step, times));
                Ok(run.edges)
            }
        }
    }

    /// Seconds of the mean step after the warm-up.
    ///
    /// # Errors
    /// As [`Self::simulate`].
    pub fn mean_step_s(&self, engine: Engine) -> Result<f64, SimulationError> {
        Ok(self.mean_step_ms(engine)? / 1e3)
    }

    /// Milliseconds of the mean step after the warm-up.
    ///
    /// # Errors
    /// As [`Self::simulate`].
    pub fn mean_step_ms(&self, engine: Engine) -> Result<f64, SimulationError> {
        let mut account = Account::default();
        self.simulate(engine, self.warmup_steps + self.steps, |step, times| {
            if step >= self.warmup_steps {
                account.add(times);
            }
        })?;
        Ok(account.summary(&account).step_ms)
    }

    /// Workers and storage work side by side, so the slower sets the pace. Images cross to the device
    /// in the precision of the forward pass.
    fn pipeline(&self, rates: &InputRates) -> InputPipeline {
        let batch = self.per_accelerator_batch;
        let seconds = rates.decode_s_per_image.max(rates.storage_s_per_image) * batch as f64;
        let image_bytes = self.model.input_shape().elements() * self.precision.element_bytes();
        let bytes = Bytes::new(image_bytes * batch);
        InputPipeline {
            decode: SimDuration::from_seconds(seconds),
            copy: rates.host_link.map_or(SimDuration::ZERO, |link| link.message_time(bytes)),
            prefetch_batches: rates.prefetch_batches,
        }
    }

    /// Steps of an epoch: images over the global batch, rounded as the last batch is handled; at least
    /// one is not dropped.
    #[must_use]
    pub fn steps_per_epoch(&self) -> f64 {
        let steps = self.images as f64 / self.global_batch as f64;
        match self.last_batch {
            LastBatch::Carried => steps,
            LastBatch::Padded => steps.ceil(),
            LastBatch::Dropped => steps.floor().max(1.0),
        }
    }

    /// Images that an epoch trains on: all, but for those that are dropped.
    #[must_use]
    pub fn epoch_images(&self) -> f64 {
        let images = self.images as f64;
        match self.last_batch {
            LastBatch::Carried | LastBatch::Padded => images,
            LastBatch::Dropped => images.min(self.steps_per_epoch() * self.global_batch as f64),
        }
    }

    /// Seconds of an epoch's training, of steps of `step_s`.
    #[must_use]
    pub fn epoch_s(&self, step_s: f64) -> f64 {
        self.steps_per_epoch() * step_s + self.epoch_start.as_seconds()
    }

    /// Evaluations of the whole run: after every so many epochs, and after the last.
    #[must_use]
    pub fn evaluations(&self) -> f64 {
        self.epochs.map_or(0.0, |epochs| self.evaluations_in(epochs))
    }

    /// Evaluations of so many epochs.
    fn evaluations_in(&self, epochs: f64) -> f64 {
        self.evaluate_every_epochs.map_or(0.0, |every| (epochs / f64::from(every)).ceil())
    }

    /// Seconds of so many epochs, of steps of `step_s`, with their evaluations of `evaluation_s`;
    /// without what failures cost.
    #[must_use]
    pub fn training_s(&self, epochs: f64, step_s: f64, evaluation_s: f64) -> f64 {
        epochs * self.epoch_s(step_s) + self.evaluations_in(epochs) * evaluation_s
    }

    /// Seconds of an evaluation: its start, forward passes over its images, spread over all ranks, and
    /// the all-reduce of how many are right.
    ///
    /// # Errors
    /// If the all-reduce cannot be timed; one of a checked scenario can.
    pub fn evaluation_s(&self) -> Result<f64, SimulationError> {
        let batches = self.evaluation_images.div_ceil(self.global_batch);
        // Evaluations normalise by running statistics, which nobody has to agree on.
        let forward = match self.device {
            Some(device) => {
                let alone = Device { batch_norm: None, ..device };
                alone.times(&self.model, self.per_accelerator_batch).forward()
            }
            None => self.compute.forward(),
        };
        let forward_s = batches as f64 * forward.as_seconds();
        let sum_us = match self.accelerators {
            1 => 0.0,
            _ => self.alone_us(COUNT_BYTES).map_err(SimulationError::Evaluation)?,
        };
        Ok(self.evaluation_start.as_seconds() + forward_s + sum_us / 1e6)
    }

    /// Microseconds of one all-reduce alone, among undisturbed ranks that start together.
    ///
    /// # Errors
    /// If it cannot be timed; one of a checked scenario can.
    pub fn alone_us(&self, bytes: Bytes) -> Result<f64, TimingError> {
        let bench = Bench {
            operation: Operation::AllReduce,
            ranks: self.accelerators,
            network: &self.network,
            jitter: SimDuration::ZERO,
            noise: Noise::NONE,
            streams: &Streams::new(self.seed),
            engine: self.engine(Engine::Folded),
            links: false,
        };
        Ok(bench.time(&self.method, bytes)?.time_us)
    }
}

/// How many images were right, as one number.
const COUNT_BYTES: Bytes = Bytes::new(8);

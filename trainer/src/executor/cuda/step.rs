//! A whole step on a device: forward, backward, the judgement of the gradients, LARS or momentum SGD,
//! the loss scale. The host says the learning rate and hears the loss; nothing else crosses.

use std::sync::Arc;

use super::arguments::Address;
use super::arguments::optimizer::{StepInput, StepState};
use super::device::Device;
use super::executor::{DeviceExecutor, bytes_of};
use super::filters::{from_device, to_device};
use super::lower::{OptimizerTables, tables};
use super::work::Work;
use crate::executor::{Batch, Executor as _, ExecutorError, LossSum, Mode, Pass};
use crate::loss_scale::{LossScaleConfig, LossScaleState, LossScaler, Verdict};
use crate::model::Weights;
use crate::optimizer::{OptimizerState, Rule, TensorMemory};
use crate::plan::{Cost, ParameterId, Plan};
use crate::step::StepOutcome;

/// What differs from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepNumbers {
    /// The learning rate.
    pub learning_rate: f64,
    /// The seed of the step's dropout.
    pub dropout_key: u64,
    /// The number of this rank's first image in the global batch.
    pub first_image: u64,
    /// Images of all ranks.
    pub global_batch: u64,
}

/// When in a step something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Images are rounded and padded.
    Input,
    /// Activations.
    Forward,
    /// Gradients.
    Backward,
    /// New weights, loss scale, running statistics.
    Optimizer,
}

impl Phase {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Optimizer => "optimizer",
        }
    }
}

/// A part of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPart {
    /// An instruction's name, or what else is done.
    pub name: String,
    /// When it is done.
    pub phase: Phase,
    /// What is done.
    pub work: Vec<Work>,
    /// What it costs at least, where that is known.
    pub cost: Option<Cost>,
}

/// Training on one device.
#[derive(Debug)]
pub struct DeviceStep<D> {
    executor: DeviceExecutor<D>,
    plan: Arc<Plan>,
    optimizer: OptimizerTables,
    loss_scale: LossScaleConfig,
}

impl<D: Device> DeviceStep<D> {
    /// Training with velocities of 0 and the first loss scale.
    ///
    /// # Errors
    /// The device failed.
    pub fn new(
        mut executor: DeviceExecutor<D>,
        plan: Arc<Plan>,
        rule: &Rule,
        loss_scale: LossScaleConfig,
    ) -> Result<Self, ExecutorError> {
        let memory = executor.memory();
        let gradients = memory.gradients.clone();
        let optimizer = tables(&plan, memory, (rule, &loss_scale), &gradients, memory.format);
        for (at, bytes) in &optimizer.tables {
            executor.device().write(*at, bytes)?;
        }
        let all: Vec<Work> = optimizer.judge.iter().chain(&optimizer.update).cloned().collect();
        executor.device().prepare(&all)?;
        let mut step = Self { executor, plan, optimizer, loss_scale };
        let first =
            LossScaler::new(loss_scale).map_err(|error| ExecutorError::Plan(error.to_string()))?;
        step.load_state(&OptimizerState::default(), first.state())?;
        Ok(step)
    }

    /// What runs its passes.
    #[must_use]
    pub const fn executor(&mut self) -> &mut DeviceExecutor<D> {
        &mut self.executor
    }

    /// Takes weights.
    ///
    /// # Errors
    /// They do not fit, or the device failed.
    pub fn load_weights(&mut self, weights: &Weights) -> Result<(), ExecutorError> {
        for id in self.plan.parameter_ids() {
            self.executor.load_weights(id, weights.of(id))?;
        }
        Ok(())
    }

    /// The weights as they are learnt.
    ///
    /// # Errors
    /// The device failed.
    pub fn weights(&mut self) -> Result<Vec<Vec<f32>>, ExecutorError> {
        let masters = self.executor.memory().masters.clone();
        self.plan.parameter_ids().map(|id| self.tensor(id, masters[id.get()])).collect()
    }

    /// One tensor in the order inside.
    fn tensor(&mut self, id: ParameterId, at: Address) -> Result<Vec<f32>, ExecutorError> {
        let parameter = &self.plan.parameters()[id.get()];
        let values = self.executor.floats(at, parameter.elements())?;
        Ok(from_device(parameter, &values))
    }

    /// Takes what a checkpoint kept of the optimizer and the loss scale; tensors that it does not
    /// know begin with velocities of 0.
    ///
    /// # Errors
    /// It does not fit, or the device failed.
    pub fn load_state(
        &mut self,
        optimizer: &OptimizerState,
        scale: LossScaleState,
    ) -> Result<(), ExecutorError> {
        let plan = Arc::clone(&self.plan);
        let mut last_learning_rate = -1.0;
        for id in plan.parameter_ids() {
            let parameter = &plan.parameters()[id.get()];
            let elements = parameter.elements();
            let velocity = match optimizer.tensors.get(&parameter.name) {
                Some(TensorMemory { velocity, last_lr }) => {
                    if velocity.len() != elements {
                        let (what, found) = ("velocities", velocity.len());
                        return Err(ExecutorError::Size { what, expected: elements, found });
                    }
                    last_learning_rate = *last_lr;
                    to_device(parameter, velocity)
                }
                None => vec![0.0; elements],
            };
            let at = self.executor.memory().velocities[id.get()];
            self.executor.device().write(at, &bytes_of(&velocity))?;
        }
        let state = StepState {
            last_learning_rate,
            skipped_steps: scale.skipped_steps,
            loss_scale: scale.scale,
            good_steps: scale.good_steps,
            skipped: 0,
            last_loss_scale: scale.scale,
        };
        let at = self.executor.memory().step[1];
        Ok(self.executor.device().write(at, &state.to_bytes())?)
    }

    /// What a checkpoint must keep of the optimizer and of the loss scale.
    ///
    /// # Errors
    /// The device failed.
    pub fn state(&mut self) -> Result<(OptimizerState, LossScaleState), ExecutorError> {
        let state = self.read_state()?;
        let mut optimizer = OptimizerState::default();
        // Before the first update there is nothing to remember.
        if state.last_learning_rate >= 0.0 {
            let velocities = self.executor.memory().velocities.clone();
            for id in self.plan.parameter_ids() {
                let velocity = self.tensor(id, velocities[id.get()])?;
                let memory = TensorMemory { velocity, last_lr: state.last_learning_rate };
                let name = self.plan.parameters()[id.get()].name.clone();
                optimizer.tensors.insert(name, memory);
            }
        }
        let StepState { loss_scale: scale, good_steps, skipped_steps, .. } = state;
        Ok((optimizer, LossScaleState { scale, good_steps, skipped_steps }))
    }

    /// How the loss scale is chosen.
    #[must_use]
    pub const fn loss_scale(&self) -> LossScaleConfig {
        self.loss_scale
    }

    /// The losses of a batch with the running statistics, without learning.
    ///
    /// # Errors
    /// The batch does not fit, or the device failed.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<LossSum, ExecutorError> {
        self.executor.load_batch(batch)?;
        let pass =
            Pass { mode: Mode::Evaluate, gradient_factor: 0.0, dropout_key: 0, first_image: 0 };
        for instruction in 0..self.plan.instructions().len() {
            self.executor.forward(instruction, pass)?;
        }
        self.executor.loss()
    }

    /// The work of the last step, part by part, to be repeated on the same images for measuring.
    #[must_use]
    pub fn parts(&self) -> Vec<StepPart> {
        let Some(program) = self.executor.current() else { return Vec::new() };
        let images = self.executor.images() as u64;
        let element_bytes = self.executor.memory().format.element_bytes();
        let part = |name: String, phase, work: &[Work]| StepPart {
            name,
            phase,
            work: work.to_vec(),
            cost: None,
        };
        let instruction = |phase, (index, work): (usize, &Vec<Work>)| {
            let instruction = &self.plan.instructions()[index];
            let cost = match phase {
                Phase::Forward => instruction.kind.forward_cost(images, element_bytes),
                _ => instruction.kind.backward_cost(images, element_bytes),
            };
            let cost = Some(cost).filter(|cost| *cost != Cost::default());
            StepPart { cost, ..part(instruction.name.clone(), phase, work) }
        };
        let forward = program.forward.iter().enumerate();
        let backward = program.backward.iter().enumerate().rev();
        let update = [&self.optimizer.judge[..], &self.optimizer.update[..]].concat();
        [part("images".to_owned(), Phase::Input, &program.take)]
            .into_iter()
            .chain(forward.map(|each| instruction(Phase::Forward, each)))
            .chain(backward.map(|each| instruction(Phase::Backward, each)))
            .chain([part("optimizer".to_owned(), Phase::Optimizer, &update)])
            .chain([part("running statistics".to_owned(), Phase::Optimizer, &program.commit)])
            .collect()
    }

    fn read_state(&mut self) -> Result<StepState, ExecutorError> {
        let mut bytes = [0; StepState::BYTES];
        let at = self.executor.memory().step[1];
        self.executor.device().read(at, &mut bytes)?;
        Ok(StepState::from_bytes(&bytes))
    }

    /// Trains on `batch`.
    ///
    /// # Errors
    /// The batch does not fit, or the device failed.
    pub fn step(
        &mut self,
        batch: &Batch,
        numbers: StepNumbers,
    ) -> Result<StepOutcome, ExecutorError> {
        self.executor.load_batch(batch)?;
        let input = StepInput {
            learning_rate: numbers.learning_rate,
            dropout_key: numbers.dropout_key,
            first_image: numbers.first_image,
            reciprocal_batch: 1.0 / numbers.global_batch as f32,
        };
        let at = self.executor.memory().step[0];
        self.executor.device().write(at, &input.to_bytes())?;
        self.executor.passes()?;
        for work in self.optimizer.judge.iter().chain(&self.optimizer.update) {
            self.executor.device().enqueue(work)?;
        }
        self.executor.commit()?;
        let loss = self.executor.loss()?;
        let state = self.read_state()?;
        let verdict = if state.skipped == 0 { Verdict::Apply } else { Verdict::Skip };
        Ok(StepOutcome { loss, verdict, loss_scale: state.last_loss_scale })
    }
}

//! What a step leaves behind on a device: weights, velocities, loss scale; from and to the host.

use std::sync::Arc;

use super::arguments::Address;
use super::arguments::optimizer::StepState;
use super::device::Device;
use super::executor::bytes_of;
use super::filters::{from_device, to_device};
use super::step::DeviceStep;
use crate::executor::{Executor as _, ExecutorError};
use crate::loss_scale::LossScaleState;
use crate::model::Weights;
use crate::optimizer::{OptimizerState, TensorMemory};
use crate::plan::ParameterId;

impl<D: Device> DeviceStep<D> {
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
    pub fn weights(&mut self) -> Result<Weights, ExecutorError> {
        let plan = Arc::clone(&self.plan);
        let masters = self.executor.memory().masters.clone();
        let tensors = plan.parameter_ids().map(|id| self.tensor(id, masters[id.get()]));
        Ok(Weights::from_masters(&plan, tensors.collect::<Result<_, _>>()?))
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

    pub(super) fn read_state(&mut self) -> Result<StepState, ExecutorError> {
        let mut bytes = [0; StepState::BYTES];
        let at = self.executor.memory().step[1];
        self.executor.device().read(at, &mut bytes)?;
        Ok(StepState::from_bytes(&bytes))
    }
}

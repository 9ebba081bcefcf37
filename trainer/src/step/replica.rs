//! One rank's copy of the model, wherever it computes.

use std::fmt;

use super::communication::{CommunicationThread, ThreadGone};
use super::timeline::Timeline;
use crate::bad_value::BadValue;
use crate::communicator::CommunicatorError;
use crate::executor::cuda::device::DeviceError;
use crate::executor::cuda::driver::nccl::NcclError;
use crate::executor::{Batch, ExecutorError, LossSum, RunningStatistics};
use crate::loss_scale::{LossScaleState, Verdict};
use crate::model::Weights;
use crate::optimizer::{OptimizerError, OptimizerState};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The batch does not fit, or a bucket is lost.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The update is impossible.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// Another rank is missing.
    #[error(transparent)]
    Communicator(#[from] CommunicatorError),
    /// NCCL failed, or another rank is missing.
    #[error(transparent)]
    Nccl(#[from] NcclError),
    /// A bug in a communicator.
    #[error(transparent)]
    ThreadGone(#[from] ThreadGone),
}

impl From<DeviceError> for StepError {
    fn from(error: DeviceError) -> Self {
        Self::Executor(error.into())
    }
}

/// Why a replica cannot go on from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It does not fit, or the device failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The update rule cannot go on from it.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// The loss scale cannot go on from it.
    #[error("{}: {}: {}", .0.key, .0.value, .0.need)]
    LossScale(BadValue),
}

impl From<BadValue> for StateError {
    fn from(value: BadValue) -> Self {
        Self::LossScale(value)
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// The losses of this rank's images.
    pub loss: LossSum,
    /// Whether weights changed, or a gradient overflowed.
    pub verdict: Verdict,
    /// The loss scale of the step.
    pub loss_scale: f32,
}

/// A copy of the model on one rank, and what trains it.
pub trait Replica: fmt::Debug + Send {
    /// What connects it to the other ranks.
    fn communication(&self) -> &CommunicationThread;

    /// On what it computes, in words, if not on this machine's processor.
    fn device(&self) -> Option<String>;

    /// Takes the batch of the next step.
    ///
    /// # Errors
    /// It does not fit, or the device failed.
    fn take(&mut self, batch: Batch) -> Result<(), ExecutorError>;

    /// Whether the next step has its batch.
    fn holds_batch(&self) -> bool;

    /// Trains on the batch that was taken, with learning rate `lr`; `step` counts all steps from 0.
    /// A device that computes meanwhile takes the batch after it from `ahead`, which gives it if it
    /// is there already.
    ///
    /// # Errors
    /// There is no batch, a rank is missing, the update is impossible, or the device failed. The
    /// weights are as before then, unless it was the device.
    fn step(
        &mut self,
        step: u64,
        lr: f64,
        timeline: &mut Timeline,
        ahead: &mut dyn FnMut() -> Option<Batch>,
    ) -> Result<StepOutcome, StepError>;

    /// Notes what of the last step, which was recorded, is asked of the device only after it.
    ///
    /// # Errors
    /// The device failed.
    fn note(&mut self, timeline: &mut Timeline) -> Result<(), ExecutorError>;

    /// The losses of a batch with the running statistics, without learning.
    ///
    /// # Errors
    /// The batch does not fit, or the device failed.
    fn evaluate(&mut self, batch: &Batch) -> Result<LossSum, ExecutorError>;

    /// The weights as they are learnt.
    ///
    /// # Errors
    /// The device failed.
    fn weights(&mut self) -> Result<Weights, ExecutorError>;

    /// Takes weights.
    ///
    /// # Errors
    /// They do not fit, or the device failed.
    fn load_weights(&mut self, weights: Weights) -> Result<(), ExecutorError>;

    /// What a checkpoint must keep of the optimizer and of the loss scale.
    ///
    /// # Errors
    /// The device failed.
    fn state(&mut self) -> Result<(OptimizerState, LossScaleState), ExecutorError>;

    /// Goes on from what a checkpoint kept.
    ///
    /// # Errors
    /// It does not fit, or the device failed.
    fn load_state(
        &mut self,
        optimizer: OptimizerState,
        scale: LossScaleState,
    ) -> Result<(), StateError>;

    /// The running statistics of all batch norms.
    ///
    /// # Errors
    /// The device failed.
    fn running_statistics(&mut self) -> Result<Vec<RunningStatistics>, ExecutorError>;

    /// Sets the running statistics of all batch norms.
    ///
    /// # Errors
    /// The wrong number of channels, or the device failed.
    fn set_running_statistics(
        &mut self,
        statistics: &[RunningStatistics],
    ) -> Result<(), ExecutorError>;
}

//! Why a run fails.

use std::io;
use std::path::PathBuf;

use foretrain_sim::located::Problem;

use crate::bad_value::BadValue;
use crate::checkpoint::CheckpointError;
use crate::communicator::{CommunicatorError, SettingsError};
use crate::data::augment::SettingError;
use crate::data::loader::LoaderError;
use crate::data::sampler::SamplerError;
use crate::data::source::SourceError;
use crate::executor::ExecutorError;
use crate::executor::cuda::device::DeviceError;
use crate::model::WeightsError;
use crate::optimizer::OptimizerError;
use crate::plan::PlanError;
use crate::plan::buckets::CycleError;
use crate::recording::RecorderError;
use crate::step::{StateError, StepError, ThreadGone};

/// Why a run fails.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting does not fit the data or the number of ranks.
    #[error("{0}")]
    Setting(Problem),
    /// The data cannot be read.
    #[error("{0}")]
    Source(SourceError),
    /// The data cannot be split over the ranks.
    #[error("{0}")]
    Sampler(SamplerError),
    /// Images cannot be prepared.
    #[error("{0}")]
    Loader(LoaderError),
    /// Ranks were told different things.
    #[error(
        "{what} of rank {rank} are not those of rank 0: start all ranks with the same configuration, \
         data and files"
    )]
    Disagreement {
        /// The rank.
        rank: u32,
        /// What differs.
        what: &'static str,
    },
    /// Gradients are not finite any more.
    #[error(
        "no gradient was finite in the {skipped} steps up to step {step}: training has diverged; take \
         a smaller base_lr or a longer warm-up, and go on from an earlier checkpoint"
    )]
    Diverged {
        /// The last step, from 0.
        step: u64,
        /// Steps without an update.
        skipped: u64,
    },
    /// There are fewer batches than the schedule counts: a bug.
    #[error("the data of epoch {epoch} ended before step {step}")]
    DataEnded {
        /// The epoch, from 0.
        epoch: u64,
        /// The step, from 0.
        step: u64,
    },
    /// Images cannot be prepared so.
    #[error("{0}")]
    Augmentation(SettingError),
    /// The network cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Gradients cannot be fused so.
    #[error(transparent)]
    Fusion(#[from] CycleError),
    /// A value is out of its range.
    #[error("{}: {}: {}", .0.key, .0.value, .0.need)]
    BadValue(BadValue),
    /// The update rule cannot go on.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// Weights do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A batch does not fit.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A tensor cannot be made.
    #[error("failed to make a batch: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A step failed.
    #[error(transparent)]
    Step(StepError),
    /// Another rank is missing.
    #[error(transparent)]
    Communicator(#[from] CommunicatorError),
    /// Ranks cannot communicate so.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A bug in a communicator.
    #[error(transparent)]
    ThreadGone(#[from] ThreadGone),
    /// A recording cannot be written.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// A file cannot be written.
    #[error("failed to write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A thread cannot be started.
    #[error("failed to start a thread: {0}")]
    Thread(String),
    /// A rank's thread panicked.
    #[error("rank {rank} panicked")]
    Panic {
        /// The rank.
        rank: u32,
    },
}

impl TrainError {
    /// Whether this only says that another rank failed.
    #[must_use]
    pub fn is_echo(&self) -> bool {
        match self {
            Self::Communicator(_) | Self::Step(StepError::Communicator(_)) => true,
            Self::Step(StepError::Nccl(error)) => !error.missing().is_empty(),
            _ => false,
        }
    }

    /// Whether configuration, data or checkpoint are to blame, and not the machine or another rank.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Setting(_)
            | Self::Disagreement { .. }
            | Self::Source(_)
            | Self::Sampler(_)
            | Self::Augmentation(_)
            | Self::Plan(_)
            | Self::Fusion(_)
            | Self::BadValue(_)
            | Self::Weights(_)
            | Self::Optimizer(_)
            | Self::Settings(_) => true,
            // A GPU that is missing or fails is the machine's fault.
            Self::Executor(error) => !matches!(error, ExecutorError::Device(_)),
            Self::Loader(error) => !matches!(error, LoaderError::Thread(_)),
            Self::Checkpoint(error) => !error.is_output(),
            _ => false,
        }
    }
}

impl From<DeviceError> for TrainError {
    fn from(error: DeviceError) -> Self {
        Self::Executor(error.into())
    }
}

impl From<StateError> for TrainError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Executor(error) => Self::Executor(error),
            StateError::Optimizer(error) => Self::Optimizer(error),
            StateError::LossScale(value) => Self::BadValue(value),
        }
    }
}

impl From<StepError> for TrainError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Executor(error) => Self::Executor(error),
            StepError::Optimizer(error) => Self::Optimizer(error),
            other => Self::Step(other),
        }
    }
}

macro_rules! from {
    ($($error:ty: $variant:ident),*) => {$(
        impl From<$error> for TrainError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(
    Problem: Setting,
    SourceError: Source,
    SamplerError: Sampler,
    LoaderError: Loader,
    SettingError: Augmentation,
    BadValue: BadValue
);

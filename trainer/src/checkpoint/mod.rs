//! Checkpoints: everything from which training goes on as if it had never stopped.
//!
//! A checkpoint is a folder:
//!
//! | file | what it holds |
//! |---|---|
//! | `model.safetensors` | weights and batch-norm statistics, named and laid out as torchvision's |
//! | `state.safetensors` | `velocity.NAME` and `last_lr.NAME` of every tensor in the optimizer |
//! | `state.json` | progress, seed, loss scale, settings that change results |
//! | `SHA256SUMS` | the hashes of these three, as `sha256sum -c` reads them |
//!
//! No random generator has a state: shuffles, augmentation and dropout are keyed by seed, epoch and
//! step.
//!
//! PyTorch loads the weights with
//!
//! ```python
//! model.load_state_dict(safetensors.torch.load_file("model.safetensors"), strict=True)
//! ```
//!
//! # Killed at any moment
//!
//! A checkpoint is written to a hidden folder beside its place: each file is synchronised with the
//! disk, then the folder, then the folder is renamed, then its parent is synchronised. So what has
//! a checkpoint's name is complete, and the [latest] is the one of the highest step. Only then old
//! ones are removed, renamed first, so that a half-removed one has no checkpoint's name either.
//! [`CheckpointFolder::open`] removes what a killed run left.
//!
//! Only one process writes: the folder is locked. Any number may [load].

mod durable;
mod error;
mod folder;
mod load;
mod model;
mod state;
#[cfg(test)]
mod tests;
mod weights;

pub use error::CheckpointError;
pub use folder::{CheckpointFolder, latest};
pub use load::{Expected, load};
pub use model::{ModelTensor, TensorKind, model_tensors};
pub use state::{Progress, TrainingState};
pub use weights::{Tensors, load_weights, save_weights};

/// Everything that a step changes.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Weights and batch-norm statistics by name.
    pub model: Tensors,
    /// All the rest.
    pub state: TrainingState,
}

const MODEL_FILE: &str = "model.safetensors";
const STATE_FILE: &str = "state.safetensors";
const JSON_FILE: &str = "state.json";
const SUMS_FILE: &str = "SHA256SUMS";

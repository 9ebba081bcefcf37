//! What kernels cost besides their work: how many there are, and how they are started.
//!
//! Every kernel has a part that does not shrink with the batch: it is launched, fills the device and
//! drains it. At large batches that is lost in the work, at small ones it is most of the step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How kernels are started, which decides what each takes besides its work. The catalogue's
/// `overheads.toml` has both times and their source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchMode {
    /// All of a step's kernels are recorded once as a CUDA graph, or compiled into one program.
    Graph,
    /// The framework starts kernel after kernel.
    Eager,
}

/// Which operations are kernels of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kernels {
    /// Each operation is one, and each tensor is updated by itself.
    #[default]
    Separate,
    /// ReLU and the join of a residual block are done by the batch norm before them, and one kernel
    /// updates many tensors.
    Fused,
}

impl Kernels {
    /// Kernels of the update of `tensors` parameter tensors: one each, or a few for all (norms, local
    /// rates, update).
    pub(super) const fn of_update(self, tensors: u64) -> u64 {
        match self {
            Self::Separate => tensors,
            Self::Fused => 3,
        }
    }
}

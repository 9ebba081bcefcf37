//! How long each layer takes on one accelerator, at one batch.
//!
//! [`ComputeTimes`] is the seam between what is known of a device and the simulated step: a
//! [`Roofline`] fills it from a datasheet, a measured profile
//! ([`ComputeProfile`](crate::profile::ComputeProfile)) from recordings.

mod anchor;
mod device;
mod launch;
mod memory;
mod roofline;

pub use anchor::Anchor;
pub use device::{BatchNormGroup, Device};
pub use launch::{Kernels, LaunchMode};
pub use memory::MemoryNeed;
pub use roofline::Roofline;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::Accelerator;
use crate::units::SimDuration;
use crate::workload::{Network, Operation};

/// What the step computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    Fp32,
    /// Single-precision storage, TF32 matrix products.
    Tf32,
    /// Half-precision storage and products, single-precision master weights.
    Fp16Mixed,
    /// bfloat16 storage and products, single-precision master weights.
    Bf16Mixed,
}

impl Precision {
    /// Bytes of one activation, weight or gradient in the forward and backward passes.
    #[must_use]
    pub const fn element_bytes(self) -> u64 {
        match self {
            Self::Fp32 | Self::Tf32 => 4,
            Self::Fp16Mixed | Self::Bf16Mixed => 2,
        }
    }

    /// Whether matrix products run in fp32, because `accelerator` does not do the narrow format
    /// faster or at all.
    #[must_use]
    pub fn falls_back_to_fp32(self, accelerator: &Accelerator) -> bool {
        let single = Self::Fp32.matrix_rate(accelerator);
        self != Self::Fp32 && single.is_some() && self.matrix_rate(accelerator) == single
    }

    /// The rate of matrix products. Where a chip does the narrow format slower than fp32 (as P40
    /// does fp16), narrow numbers save traffic only and the arithmetic is done in fp32.
    pub(super) fn matrix_rate(self, accelerator: &Accelerator) -> Option<f64> {
        let narrow = match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Fp16Mixed => "fp16",
            Self::Bf16Mixed => "bf16",
        };
        let rates = [narrow, "fp32"].map(|name| accelerator.matrix_rates.get(name));
        rates.into_iter().flatten().map(|rate| rate.get()).reduce(f64::max)
    }
}

/// How the weights are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    #[default]
    Momentum,
    /// Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888): two norms of each tensor
    /// are taken before the update.
    Lars,
    /// RMSprop that turns into momentum over the first epochs (Akiba et al., arXiv 1711.04325): a
    /// second moment is read and written beside the first.
    RmspropWarmUp,
}

impl std::fmt::Display for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Momentum => "momentum",
            Self::Lars => "lars",
            Self::RmspropWarmUp => "rmsprop-warm-up",
        })
    }
}

impl Optimizer {
    /// Memory traffic of the update for each parameter: reads weight, gradient and momentum and
    /// writes weight and momentum, all single precision; LARS first reads weight and gradient for
    /// their norms, RMSprop its second moment; mixed precision also reads the half gradient, writes it as single, and writes
    /// the half weight.
    pub(super) const fn traffic_bytes(self, precision: Precision) -> u64 {
        let update = 5 * 4;
        let more = match self {
            Self::Momentum => 0,
            Self::Lars | Self::RmspropWarmUp => 2 * 4,
        };
        let casts = match precision {
            Precision::Fp32 | Precision::Tf32 => 0,
            Precision::Fp16Mixed | Precision::Bf16Mixed => 2 + 4 + 2,
        };
        update + more + casts
    }
}

/// Where compute times come from, for the forecast to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeSource {
    /// A roofline over datasheet rates: a bound.
    Roofline,
    /// The roofline scaled to a measured rate.
    AnchoredRoofline,
    /// Layer times that were measured.
    Profile,
}

/// What one layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerTime {
    /// Forward.
    pub forward: SimDuration,
    /// Backward; all of the layer's gradients are ready at its end.
    pub backward: SimDuration,
}

/// What the compute of one step takes on one undisturbed accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeTimes {
    /// One entry a node of the network, in forward order.
    pub layers: Vec<LayerTime>,
    /// The optimizer's update.
    pub optimizer: SimDuration,
    /// Where the times are from.
    pub source: ComputeSource,
}

impl ComputeTimes {
    /// The whole forward pass.
    #[must_use]
    pub fn forward(&self) -> SimDuration {
        self.layers.iter().map(|layer| layer.forward).sum()
    }

    /// The whole backward pass.
    #[must_use]
    pub fn backward(&self) -> SimDuration {
        self.layers.iter().map(|layer| layer.backward).sum()
    }

    /// Adds to each batch norm of `network` what ranks that normalise together take to agree on its
    /// statistics, by the number of its channels: once forward, of sums of values, and once backward, of
    /// sums of gradients.
    pub fn add_to_batch_norms(&mut self, network: &Network, exchange: impl Fn(u64) -> SimDuration) {
        for (node, layer) in network.nodes().iter().zip(&mut self.layers) {
            if node.operation == Operation::BatchNorm {
                let time = exchange(node.output_shape.channels);
                layer.forward += time;
                layer.backward += time;
            }
        }
    }

    /// Forward, backward and update.
    #[must_use]
    pub fn step(&self) -> SimDuration {
        self.forward() + self.backward() + self.optimizer
    }
}

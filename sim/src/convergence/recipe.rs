//! What of a training recipe decides how it converges.

use serde::{Deserialize, Serialize};

/// The network that is trained, on ImageNet at 224 pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// ResNet-50.
    Resnet50,
    /// AlexNet.
    Alexnet,
    /// AlexNet with batch normalisation.
    AlexnetBn,
}

/// How weights are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Momentum, the learning rate growing with the batch (Goyal et al., arXiv 1706.02677).
    Momentum,
    /// Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888).
    Lars,
    /// RMSprop turning into momentum (Akiba et al., arXiv 1711.04325).
    RmspropWarmUp,
}

impl Optimizer {
    /// Each with its name.
    pub const NAMED: [(&str, Self); 3] = [
        ("momentum", Self::Momentum),
        ("lars", Self::Lars),
        ("rmsprop-warm-up", Self::RmspropWarmUp),
    ];

    /// Whether the learning rate of all layers grows with the batch, which fails above some batch.
    #[must_use]
    pub const fn scales_linearly(self) -> bool {
        matches!(self, Self::Momentum)
    }
}

/// In which precision forward and backward run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision, or TF32.
    Single,
    /// Half precision, sums and updates in single precision.
    Half,
}

/// A training recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recipe {
    /// What is trained.
    pub model: Model,
    /// How it is updated.
    pub optimizer: Optimizer,
    /// Whether the learning rate rises over the first epochs.
    pub warm_up: bool,
    /// Whether LARS decays bias and batch norm as it does weights.
    pub decay_on_bias_and_norm: bool,
    /// In which precision it runs.
    pub precision: Precision,
    /// Whether small gradients are kept from vanishing in half precision: by scaling the loss, with
    /// products summed in single precision.
    pub loss_scaling: bool,
}

impl Recipe {
    /// `model` by `optimizer` as published recipes of large batches do it: with warm-up, no decay
    /// of bias and batch norm, in single precision.
    #[must_use]
    pub const fn usual(model: Model, optimizer: Optimizer) -> Self {
        Self {
            model,
            optimizer,
            warm_up: true,
            decay_on_bias_and_norm: false,
            precision: Precision::Single,
            loss_scaling: true,
        }
    }

    /// Whether gradients vanish in half precision.
    #[must_use]
    pub fn loses_small_gradients(&self) -> bool {
        self.precision == Precision::Half && !self.loss_scaling
    }

    /// Whether it has a part that costs accuracy and that careful recipes leave out.
    #[must_use]
    pub fn is_ablation(&self) -> bool {
        !self.warm_up || self.decay_on_bias_and_norm || self.loses_small_gradients()
    }
}

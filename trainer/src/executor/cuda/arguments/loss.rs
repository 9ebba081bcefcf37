//! Softmax and cross-entropy.

use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

kernel_arguments! {
    /// The loss of each image, and how many classes come before its label; one block an image.
    "softmax_loss" SoftmaxLoss {
        /// `images × classes`.
        logits: Address,
        /// A `u32` for each image.
        labels: Address,
        /// A `f32` for each image.
        losses: Address,
        /// A `u32` for each image.
        ranks: Address,
        /// Classes.
        classes: u32,
        /// Images.
        images: u32,
        /// The part of the label that is spread over all classes.
        smoothing: f32,
    }

    /// (p − t) times the loss scale, divided by the global batch; one block an image.
    "softmax_gradient" SoftmaxGradient {
        /// `images × classes`.
        logits: Address,
        /// A `u32` for each image.
        labels: Address,
        /// `images × classes`.
        gradient: Address,
        /// [`StepInput`](super::optimizer::StepInput).
        input: Address,
        /// [`StepState`](super::optimizer::StepState).
        state: Address,
        /// Classes.
        classes: u32,
        /// Images.
        images: u32,
        /// The part of the label that is spread over all classes.
        smoothing: f32,
    }

    /// Adds up the losses and hits of all images; one block.
    "loss_sums" LossSums {
        /// What [`SoftmaxLoss`] wrote.
        losses: Address,
        /// What [`SoftmaxLoss`] wrote.
        ranks: Address,
        /// An `f64` and two `u64`: loss, hits, hits among the first five.
        sums: Address,
        /// Images.
        images: u32,
    }
}

//! Batch normalisation, with the sum and the ReLU after it. Rows are pixels of all images that share
//! statistics; what is of a channel is in single precision.

use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

kernel_arguments! {
    /// Each block: Σ (x − x₀) and Σ (x − x₀)² of its rows, with x₀ the first row, so that sums do not
    /// cancel.
    "batch_norm_statistics" BatchNormStatistics {
        /// `rows × channels`.
        x: Address,
        /// `blocks × 2 × channels`.
        partial: Address,
        /// Rows.
        rows: u64,
        /// Channels, a multiple of eight.
        channels: u32,
    }

    /// From the blocks' sums: mean, 1 / √(v + ε), what multiplies and what is added, and the running
    /// statistics if the step is not skipped.
    "batch_norm_finish" BatchNormFinish {
        /// `rows × channels`, of which the first row is read.
        x: Address,
        /// What [`BatchNormStatistics`] wrote.
        partial: Address,
        /// γ.
        gamma: Address,
        /// β.
        beta: Address,
        /// Mean of the rows.
        mean: Address,
        /// 1 / √(v + ε).
        inverse: Address,
        /// γ / √(v + ε).
        scale: Address,
        /// β − mean · scale.
        shift: Address,
        /// Running mean, to be followed.
        running_mean: Address,
        /// Running variance.
        running_variance: Address,
        /// Running mean after the step.
        next_mean: Address,
        /// Running variance after the step.
        next_variance: Address,
        /// Rows.
        rows: u64,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Blocks that wrote sums.
        blocks: u32,
        /// ε.
        epsilon: f32,
        /// How much of the running statistics these rows replace.
        weight: f32,
        /// 1 for the first group of a batch: `next` begins with the running statistics, else with itself.
        first: u32,
    }

    /// For evaluation, from the running statistics: what multiplies and what is added.
    "batch_norm_running" BatchNormRunning {
        /// Running mean.
        mean: Address,
        /// Running variance.
        variance: Address,
        /// γ.
        gamma: Address,
        /// β.
        beta: Address,
        /// γ / √(v + ε).
        scale: Address,
        /// β − mean · scale.
        shift: Address,
        /// Channels, a multiple of eight.
        channels: u32,
        /// ε.
        epsilon: f32,
    }

    /// y = x · scale + shift, then + residual, then max(y, 0).
    "batch_norm_apply" BatchNormApply {
        /// `rows × channels`.
        x: Address,
        /// What is added; null if nothing is.
        residual: Address,
        /// `rows × channels`.
        y: Address,
        /// Of each channel.
        scale: Address,
        /// Of each channel.
        shift: Address,
        /// Elements divided by eight.
        vectors: u64,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Whether negative results become 0.
        relu: u32,
    }

    /// Each block: Σ z and Σ z (x − mean) of its rows, where z is dy where y > 0, or dy.
    "batch_norm_gradient_sums" BatchNormGradientSums {
        /// `rows × channels`.
        x: Address,
        /// The output of forward; null without a ReLU.
        y: Address,
        /// Its gradient.
        dy: Address,
        /// Mean of the rows.
        mean: Address,
        /// `blocks × 2 × channels`.
        partial: Address,
        /// Rows.
        rows: u64,
        /// Channels, a multiple of eight.
        channels: u32,
    }

    /// From the blocks' sums: dγ, dβ and the coefficients of dx = a z + b (x − mean) + c.
    "batch_norm_gradient_finish" BatchNormGradientFinish {
        /// What [`BatchNormGradientSums`] wrote.
        partial: Address,
        /// γ.
        gamma: Address,
        /// 1 / √(v + ε).
        inverse: Address,
        /// Where dγ goes, in the format of activations.
        d_gamma: Address,
        /// Where dβ goes, likewise.
        d_beta: Address,
        /// `3 × channels`: a, b, c.
        coefficients: Address,
        /// Rows.
        rows: u64,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Blocks that wrote sums.
        blocks: u32,
        /// Whether dγ and dβ are added (1) or written (0).
        accumulate: u32,
    }

    /// dx = a z + b (x − mean) + c, and z as the gradient of the residual.
    "batch_norm_gradient_apply" BatchNormGradientApply {
        /// `rows × channels`.
        x: Address,
        /// The output of forward; null without a ReLU.
        y: Address,
        /// Its gradient.
        dy: Address,
        /// Mean of the rows.
        mean: Address,
        /// `3 × channels`: a, b, c.
        coefficients: Address,
        /// The gradient of the input.
        dx: Address,
        /// The gradient of the residual; null if nobody wants it.
        d_residual: Address,
        /// Elements divided by eight.
        vectors: u64,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Whether dx is added (1) or written (0).
        accumulate: u32,
        /// Whether the gradient of the residual is added (1) or written (0).
        accumulate_residual: u32,
    }

    /// Takes over the running statistics after a step that is not skipped.
    "commit_statistics" CommitStatistics {
        /// What they would be.
        next: Address,
        /// What they are.
        running: Address,
        /// How many numbers.
        elements: u64,
        /// [`StepState`](super::optimizer::StepState).
        state: Address,
    }
}

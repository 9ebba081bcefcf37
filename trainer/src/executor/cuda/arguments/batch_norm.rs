//! Batch normalisation, with the sum and the ReLU after it. Rows are pixels of all images that share
//! statistics; what is of a channel is in single precision.

use super::grid::{Tiling, blocks_for};
use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

kernel_arguments! {
    /// For each of `blocks` parts of the rows: Σ (x − x₀) and Σ (x − x₀)², with x₀ the first of all
    /// rows, so that sums do not cancel.
    "batch_norm_statistics" BatchNormStatistics {
        /// `rows × channels`.
        x: Address,
        /// `blocks × 2 × channels`.
        partial: Address,
        /// Rows.
        rows: u64,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Parts of the rows, [`statistics_blocks`].
        blocks: u32,
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
        /// Parts of the rows, of which each has sums.
        blocks: u32,
        /// ε.
        epsilon: f32,
        /// How much of the running statistics these rows replace: `next` begins somewhere, and then
        /// weight · (value − running) is added.
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

    /// For each of `blocks` parts of the rows: Σ z and Σ z (x − mean), where z is 0 where y ≤ 0, and
    /// else dy.
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
        /// Parts of the rows, [`statistics_blocks`].
        blocks: u32,
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
        /// Parts of the rows, of which each has sums.
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

/// Rows that a thread sums at least before its block adds up what its threads have, so that reading
/// and not adding up is what takes time.
const ROWS_OF_SUM: u64 = 8;

/// Blocks of [`BatchNormStatistics`] and [`BatchNormGradientSums`] at most: eight for each of the 132
/// multiprocessors of an H100.
const SUM_BLOCKS_MAX: u32 = 132 * 8;

/// Into how many parts the rows are cut of which each has its own sums, in [`BatchNormStatistics`] and
/// [`BatchNormGradientSums`]: a function of sizes only, so that results do not depend on the GPU.
///
/// A block sums up to 256 channels of a part. There are as many parts as it takes to keep a large GPU
/// busy, if that leaves each thread enough rows; and no more, as all sums are written and read again:
/// at most 1056 × 2 × 256 numbers, whatever the rows (below 270 thousand channels).
#[must_use]
pub fn statistics_blocks(rows: u64, channels: u32) -> u32 {
    let tiling = Tiling::new(channels);
    let wanted = rows.div_ceil(u64::from(tiling.lanes) * ROWS_OF_SUM);
    wanted.clamp(1, u64::from((SUM_BLOCKS_MAX / tiling.tiles).max(1))) as u32
}

impl BatchNormStatistics {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        self.blocks * Tiling::new(self.channels).tiles
    }
}

impl BatchNormGradientSums {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        self.blocks * Tiling::new(self.channels).tiles
    }
}

/// Channels that a block finishes at a time: `FINISHED` in `kernels/rows.h`.
const FINISHED: u32 = 8;

impl BatchNormFinish {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        self.channels.div_ceil(FINISHED)
    }
}

impl BatchNormGradientFinish {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        self.channels.div_ceil(FINISHED)
    }
}

impl BatchNormRunning {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        blocks_for(u64::from(self.channels))
    }
}

impl BatchNormApply {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        Tiling::new(self.channels).grid(self.vectors)
    }
}

impl BatchNormGradientApply {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        Tiling::new(self.channels).grid(self.vectors)
    }
}

impl CommitStatistics {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        blocks_for(self.elements)
    }
}

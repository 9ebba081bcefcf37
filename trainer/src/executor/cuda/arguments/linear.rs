//! Biases: what matrix products leave to do.

use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

kernel_arguments! {
    /// y += bias, row by row.
    "add_bias" AddBias {
        /// `rows × columns`.
        y: Address,
        /// An `f32` for each column.
        bias: Address,
        /// Rows.
        rows: u64,
        /// Columns; any number.
        columns: u32,
    }

    /// Each block: the sums of the columns of its rows, an equal part of all. A grid of
    /// [`column_blocks`].
    "column_sums" ColumnSums {
        /// `rows × columns`.
        from: Address,
        /// `blocks × columns`, single precision.
        partial: Address,
        /// Rows.
        rows: u64,
        /// Columns; any number.
        columns: u32,
    }

    /// Adds up what the blocks found.
    "column_sums_finish" ColumnSumsFinish {
        /// What [`ColumnSums`] wrote.
        partial: Address,
        /// The sums, in the format of activations.
        to: Address,
        /// Blocks that wrote sums.
        blocks: u32,
        /// Columns.
        columns: u32,
    }
}

/// Elements that are worth a block of [`ColumnSums`].
const BLOCK_ELEMENTS: u64 = 1 << 14;
/// More blocks than this would leave too much to [`ColumnSumsFinish`].
const MOST_BLOCKS: u64 = 512;

/// Blocks for [`ColumnSums`] of a matrix: from its size alone, so that every GPU adds in the same
/// order.
#[must_use]
pub fn column_blocks(rows: u64, columns: u32) -> u32 {
    let wanted = (rows * u64::from(columns)).div_ceil(BLOCK_ELEMENTS);
    wanted.min(rows).clamp(1, MOST_BLOCKS) as u32
}

/// Columns of a block of [`ColumnSumsFinish`]: as many as a warp has threads.
const FINISH_COLUMNS: u32 = 32;

/// Blocks for [`ColumnSumsFinish`].
#[must_use]
pub fn column_finish_blocks(columns: u32) -> u32 {
    columns.div_ceil(FINISH_COLUMNS).max(1)
}

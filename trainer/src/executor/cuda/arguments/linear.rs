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

    /// Each block: the sums of the columns of its rows.
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

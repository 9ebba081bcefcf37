//! What is done on a GPU: the instructions of a plan, taken apart.

use foretrain_sim::recording::NumberFormat;

use super::arguments::{Address, Launch};
use crate::plan::Window;

/// One thing to be done; what comes later sees what came before.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// An own kernel.
    Launch(Launch),
    /// A convolution or one of its gradients.
    Convolution(Convolution),
    /// A matrix product.
    Product(Product),
    /// Sets memory to zero.
    Clear {
        /// Where.
        at: Address,
        /// How much.
        bytes: usize,
    },
    /// Copies memory; the places do not overlap.
    Copy {
        /// Where from.
        from: Address,
        /// Where to.
        to: Address,
        /// How much.
        bytes: usize,
    },
}

/// What of a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConvolutionPass {
    /// The output, from input and filters.
    Forward,
    /// The gradient of the input, from filters and the gradient of the output.
    Data,
    /// The gradient of the filters, from input and the gradient of the output.
    Filters,
}

/// A convolution or one of its gradients. Activations lie as `images × height × width × channels`,
/// filters as `outputs × kernel × kernel × inputs of a group`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// What is computed.
    pub pass: ConvolutionPass,
    /// The geometry.
    pub window: Window,
    /// Images.
    pub images: usize,
    /// The format of everything; sums are in single precision.
    pub format: NumberFormat,
    /// The input, or its gradient.
    pub input: Address,
    /// The filters, or their gradient.
    pub filters: Address,
    /// The output, or its gradient.
    pub output: Address,
    /// Whether the result is added to what is there.
    pub accumulate: bool,
}

/// `out = left × right`, row by row: `rows × depth` times `depth × columns`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Terms of each sum.
    pub depth: usize,
    /// The left matrix.
    pub left: Address,
    /// Whether it lies as `depth × rows`.
    pub left_transposed: bool,
    /// The right matrix.
    pub right: Address,
    /// Whether it lies as `columns × depth`.
    pub right_transposed: bool,
    /// The result.
    pub out: Address,
    /// Whether the result is added to what is there.
    pub accumulate: bool,
    /// The format of everything; sums are in single precision.
    pub format: NumberFormat,
}

//! What looks at one element at a time.

use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

kernel_arguments! {
    /// y = max(x, 0).
    "relu" Relu {
        /// What it reads.
        x: Address,
        /// What it writes.
        y: Address,
        /// Elements divided by eight.
        vectors: u64,
    }

    /// dx = dy where y is not 0; what is no number passes, as forward.
    "relu_backward" ReluBackward {
        /// The output of forward.
        y: Address,
        /// Its gradient.
        dy: Address,
        /// The gradient of the input.
        dx: Address,
        /// Elements divided by eight.
        vectors: u64,
        /// Whether the gradient is added (1) or written (0).
        accumulate: u32,
    }

    /// Zeroes a random part of the elements and scales the others up: forward on values, backward on
    /// gradients.
    "dropout" Dropout {
        /// What it reads.
        from: Address,
        /// What it writes.
        to: Address,
        /// Elements divided by eight.
        vectors: u64,
        /// [`StepInput`](super::optimizer::StepInput), for the step's key and the first image.
        input: Address,
        /// The instruction's number, which names the layer.
        instruction: u64,
        /// Elements of one image.
        elements_per_image: u64,
        /// The part that becomes 0.
        rate: f64,
        /// Whether the result is added (1) or written (0).
        accumulate: u32,
    }

    /// Rounds numbers from one format to another.
    "cast" Cast {
        /// What it reads.
        from: Address,
        /// What it writes.
        to: Address,
        /// How many.
        elements: u64,
        /// [`format_number`](crate::executor::cuda::kernels::format_number) of what is read.
        from_format: u32,
        /// That of what is written.
        to_format: u32,
    }

    /// The sum of the squares of each block's part, in double precision. A grid of [`square_blocks`].
    "square_sums" SquareSums {
        /// What it reads, aligned to its numbers.
        from: Address,
        /// How many.
        elements: u64,
        /// A `f64` for each block.
        partial: Address,
        /// The format of what is read.
        format: u32,
    }
}

/// Elements that are worth a block of [`SquareSums`].
const BLOCK_ELEMENTS: u64 = 1 << 14;
/// More blocks than this would leave too many sums to add up.
const MOST_BLOCKS: u64 = 1024;

/// Blocks for [`SquareSums`]: from the size alone, so that every GPU adds in the same order.
#[must_use]
pub fn square_blocks(elements: u64) -> u32 {
    elements.div_ceil(BLOCK_ELEMENTS).clamp(1, MOST_BLOCKS) as u32
}

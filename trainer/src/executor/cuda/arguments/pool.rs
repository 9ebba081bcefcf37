//! Pools.

use super::grid::{BLOCKS_MAX, THREADS, Tiling, VECTOR};
use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

kernel_arguments! {
    /// The largest of each window, and which position it was at: the first of equals. What is no number
    /// is larger than all numbers.
    "max_pool" MaxPool {
        /// `images × input_height × input_width × channels`.
        x: Address,
        /// `images × output_height × output_width × channels`.
        y: Address,
        /// A byte for each element of the output.
        positions: Address,
        /// Images.
        images: u32,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Rows of the input.
        input_height: u32,
        /// Columns of the input.
        input_width: u32,
        /// Rows of the output.
        output_height: u32,
        /// Columns of the output.
        output_width: u32,
        /// Rows and columns of the window.
        kernel: u32,
        /// Its step.
        stride: u32,
        /// Rows and columns outside the image on each side.
        padding: u32,
    }

    /// Gives each gradient to the element that was the largest.
    "max_pool_backward" MaxPoolBackward {
        /// The gradient of the output.
        dy: Address,
        /// What [`MaxPool`] wrote.
        positions: Address,
        /// The gradient of the input.
        dx: Address,
        /// Images.
        images: u32,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Rows of the input.
        input_height: u32,
        /// Columns of the input.
        input_width: u32,
        /// Rows of the output.
        output_height: u32,
        /// Columns of the output.
        output_width: u32,
        /// Rows and columns of the window.
        kernel: u32,
        /// Its step.
        stride: u32,
        /// Rows and columns outside the image on each side.
        padding: u32,
        /// Whether the gradient is added (1) or written (0).
        accumulate: u32,
    }

    /// The mean of each channel over the pixels of each image.
    "average_pool" AveragePool {
        /// `images × pixels × channels`.
        x: Address,
        /// `images × channels`.
        y: Address,
        /// Images.
        images: u32,
        /// Pixels of an image.
        pixels: u32,
        /// Channels, a multiple of eight.
        channels: u32,
    }

    /// Spreads each gradient over the pixels.
    "average_pool_backward" AveragePoolBackward {
        /// `images × channels`.
        dy: Address,
        /// `images × pixels × channels`.
        dx: Address,
        /// Images.
        images: u32,
        /// Pixels of an image.
        pixels: u32,
        /// Channels, a multiple of eight.
        channels: u32,
        /// Whether the gradient is added (1) or written (0).
        accumulate: u32,
    }
}

/// A block looks at one image at a time, at as many vectors of it as it has threads.
fn grid_of_images(images: u32, [height, width, channels]: [u32; 3]) -> u32 {
    let vectors = u64::from(height) * u64::from(width) * u64::from(channels / VECTOR);
    let blocks = u64::from(images) * vectors.div_ceil(u64::from(THREADS));
    blocks.clamp(1, u64::from(BLOCKS_MAX)) as u32
}

/// A block looks at one tile of one image at a time.
fn grid_of_tiles(images: u32, channels: u32) -> u32 {
    let blocks = u64::from(images) * u64::from(Tiling::new(channels).tiles);
    blocks.clamp(1, u64::from(BLOCKS_MAX)) as u32
}

impl MaxPool {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        grid_of_images(self.images, [self.output_height, self.output_width, self.channels])
    }
}

impl MaxPoolBackward {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        grid_of_images(self.images, [self.input_height, self.input_width, self.channels])
    }
}

impl AveragePool {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        grid_of_tiles(self.images, self.channels)
    }
}

impl AveragePoolBackward {
    /// The grid that suits it; any other gives the same result.
    #[must_use]
    pub fn grid(&self) -> u32 {
        grid_of_tiles(self.images, self.channels)
    }
}

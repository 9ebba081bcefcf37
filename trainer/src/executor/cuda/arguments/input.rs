//! Images and filters on their way in.

use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

kernel_arguments! {
    /// Rounds images of single precision, with zeros for channels that are missing.
    "take_images" TakeImages {
        /// `pixels × channels`, single precision.
        from: Address,
        /// `pixels × padded`.
        to: Address,
        /// Pixels of all images.
        pixels: u64,
        /// Channels of an image.
        channels: u32,
        /// Channels in memory, a multiple of four.
        padded: u32,
    }

    /// Bytes to numbers, byte · factor + offset for each of up to four channels, with zeros for channels
    /// that are missing.
    "normalise_images" NormaliseImages {
        /// `pixels × channels`, bytes.
        from: Address,
        /// `pixels × padded`.
        to: Address,
        /// Pixels of all images.
        pixels: u64,
        /// Channels of an image, up to four.
        channels: u32,
        /// Channels in memory, a multiple of four.
        padded: u32,
        /// Of channel 0.
        factor_0: f32,
        /// Of channel 1.
        factor_1: f32,
        /// Of channel 2.
        factor_2: f32,
        /// Of channel 3.
        factor_3: f32,
        /// Of channel 0.
        offset_0: f32,
        /// Of channel 1.
        offset_1: f32,
        /// Of channel 2.
        offset_2: f32,
        /// Of channel 3.
        offset_3: f32,
    }

    /// Rounds filters, with zeros for input channels that are missing.
    "pad_filters" PadFilters {
        /// `rows × channels`, single precision.
        from: Address,
        /// `rows × padded`.
        to: Address,
        /// Outputs times window positions.
        rows: u64,
        /// Input channels.
        channels: u32,
        /// Input channels in memory, a multiple of four.
        padded: u32,
    }

    /// The gradient of filters without that of missing input channels.
    "unpad_filters" UnpadFilters {
        /// `rows × padded`.
        from: Address,
        /// `rows × channels`.
        to: Address,
        /// Outputs times window positions.
        rows: u64,
        /// Input channels.
        channels: u32,
        /// Input channels in memory.
        padded: u32,
    }
}

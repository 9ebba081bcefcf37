//! Where a square window moves over an image.

use foretrain_sim::workload::Shape;

/// A convolution's or pool's geometry, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Channels of the input.
    pub input_channels: usize,
    /// Rows of the input.
    pub input_height: usize,
    /// Columns of the input.
    pub input_width: usize,
    /// Channels of the output.
    pub output_channels: usize,
    /// Rows of the output.
    pub output_height: usize,
    /// Columns of the output.
    pub output_width: usize,
    /// Rows and columns of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Rows and columns outside the image on each side.
    pub padding: usize,
    /// Independent groups of channels.
    pub groups: usize,
}

impl Window {
    /// The window between these shapes.
    pub(super) const fn new(
        input: Shape,
        output: Shape,
        (kernel, stride, padding): (u64, u64, u64),
        groups: u64,
    ) -> Self {
        Self {
            input_channels: input.channels as usize,
            input_height: input.height as usize,
            input_width: input.width as usize,
            output_channels: output.channels as usize,
            output_height: output.height as usize,
            output_width: output.width as usize,
            kernel: kernel as usize,
            stride: stride as usize,
            padding: padding as usize,
            groups: groups as usize,
        }
    }

    /// Pixels of the output of one image.
    #[must_use]
    pub const fn output_pixels(&self) -> usize {
        self.output_height * self.output_width
    }

    /// Elements of one input image.
    #[must_use]
    pub const fn input_elements(&self) -> usize {
        self.input_height * self.input_width * self.input_channels
    }

    /// Elements of one output image.
    #[must_use]
    pub const fn output_elements(&self) -> usize {
        self.output_pixels() * self.output_channels
    }

    /// Input channels of a group.
    #[must_use]
    pub const fn group_inputs(&self) -> usize {
        self.input_channels / self.groups
    }

    /// Output channels of a group.
    #[must_use]
    pub const fn group_outputs(&self) -> usize {
        self.output_channels / self.groups
    }

    /// Elements under the window in one group: the depth of a convolution's matrix product.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.kernel * self.kernel * self.group_inputs()
    }

    /// Whether every output pixel sees exactly the input pixel at its place.
    #[must_use]
    pub const fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// The input row or column that `offset` in the window sees at `output`, if it is below `size`.
    #[must_use]
    pub const fn source(&self, output: usize, offset: usize, size: usize) -> Option<usize> {
        let padded = output * self.stride + offset;
        if padded >= self.padding && padded - self.padding < size {
            Some(padded - self.padding)
        } else {
            None
        }
    }
}

//! The static step: what is computed, in which order, in which memory, and when gradients are ready.
//!
//! A [`Plan`] lowers a network of `foretrain-sim`, the same list of nodes that is simulated, to
//! [`Instruction`]s. Forward runs them in order, backward in reverse. Batch normalisation, the
//! residual sum and the ReLU after it become one instruction, so that memory is read once.
//!
//! Everything is fixed before the first step:
//!
//! - activations and their gradients are [`Buffer`]s in one arena, whose places follow from when
//!   each is written first and read last ([`memory`]);
//! - where the gradient of an activation comes from several readers, the plan says who writes it
//!   first and who adds to it;
//! - parameter gradients lie one after the other in [`Buckets`](buckets::Buckets), cut by the
//!   simulator's own fusion rule; a bucket is ready for the all-reduce when the last of its
//!   gradients has been written.
//!
//! A plan knows no batch size and no precision: sizes are elements for each image.

pub mod buckets;
mod build;
mod cost;
pub mod memory;
mod parameter;
mod window;

#[cfg(test)]
mod tests;

pub use build::PlanError;
pub use cost::Cost;
pub use parameter::{Parameter, ParameterId, ParameterLayout};
pub use window::Window;

use foretrain_sim::workload::{Network, NodeIndex, Shape};

/// A buffer's place in [`Plan::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub(crate) usize);

impl BufferId {
    /// The place.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// Memory that holds an activation or the gradient of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// The node that writes it, such as `layer1.0.conv1`, or `gradient of` that node.
    pub name: String,
    /// Elements for each image.
    pub elements: usize,
    /// The first element in the arena, for each image.
    pub offset: usize,
    /// From the moment it is first written to the one it is last read; see [`Plan::moments`].
    pub lifetime: std::ops::RangeInclusive<usize>,
}

/// Who else adds to the gradient of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GradientTarget {
    /// Where the gradient is.
    pub buffer: BufferId,
    /// Whether another instruction has been there before, so that this one adds.
    pub accumulate: bool,
}

/// An activation that an instruction reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// Where its values are.
    pub buffer: BufferId,
    /// Where backward writes its gradient; none for the images.
    pub gradient: Option<GradientTarget>,
}

/// An activation that an instruction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Where its values go.
    pub buffer: BufferId,
    /// Where backward finds its gradient.
    pub gradient: BufferId,
}

/// What an instruction computes. Shapes are for one image; activations lie as
/// `height × width × channels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A convolution.
    Convolution {
        /// Its geometry.
        window: Window,
        /// What it reads.
        input: Operand,
        /// What it writes.
        output: Output,
        /// The filters.
        weight: ParameterId,
        /// The bias of each output channel.
        bias: Option<ParameterId>,
    },
    /// Batch normalisation, then the sum with a residual, then max(x, 0), as far as there are any.
    BatchNorm {
        /// The number among the plan's batch norms.
        number: usize,
        /// The shape of input and output.
        shape: Shape,
        /// What it reads.
        input: Operand,
        /// What is added after the normalisation.
        residual: Option<Operand>,
        /// Whether negative results become 0.
        relu: bool,
        /// What it writes.
        output: Output,
        /// γ.
        scale: ParameterId,
        /// β.
        shift: ParameterId,
    },
    /// max(x, 0).
    Relu {
        /// What it reads.
        input: Operand,
        /// What it writes.
        output: Output,
    },
    /// Zeroes a random part of the elements and scales the others up, in training.
    Dropout {
        /// What it reads.
        input: Operand,
        /// What it writes.
        output: Output,
    },
    /// The largest of each window.
    MaxPool {
        /// The number among the plan's max pools.
        number: usize,
        /// Its geometry.
        window: Window,
        /// What it reads.
        input: Operand,
        /// What it writes.
        output: Output,
    },
    /// The mean of each channel.
    GlobalAveragePool {
        /// The shape of the input.
        shape: Shape,
        /// What it reads.
        input: Operand,
        /// What it writes.
        output: Output,
    },
    /// A fully connected layer.
    Linear {
        /// Elements of the input.
        inputs: usize,
        /// Elements of the output.
        outputs: usize,
        /// What it reads.
        input: Operand,
        /// What it writes.
        output: Output,
        /// The weights.
        weight: ParameterId,
        /// The bias.
        bias: ParameterId,
    },
    /// Softmax and cross-entropy; its backward begins the backward pass.
    Loss {
        /// The logits.
        input: Operand,
    },
}

impl Kind {
    /// The activations it reads.
    pub fn operands(&self) -> impl Iterator<Item = Operand> {
        let (input, residual) = match *self {
            Self::BatchNorm { input, residual, .. } => (input, residual),
            Self::Convolution { input, .. }
            | Self::Relu { input, .. }
            | Self::Dropout { input, .. }
            | Self::MaxPool { input, .. }
            | Self::GlobalAveragePool { input, .. }
            | Self::Linear { input, .. }
            | Self::Loss { input } => (input, None),
        };
        std::iter::once(input).chain(residual)
    }

    /// The parameters it has.
    pub fn parameters(&self) -> impl Iterator<Item = ParameterId> {
        let (first, second) = match *self {
            Self::Convolution { weight, bias, .. } => (Some(weight), bias),
            Self::BatchNorm { scale, shift, .. } => (Some(scale), Some(shift)),
            Self::Linear { weight, bias, .. } => (Some(weight), Some(bias)),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// One kernel, or a few that belong together, forward and backward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The nodes it computes, such as `layer1.0.bn3+add+relu3`.
    pub name: String,
    /// Those nodes, in forward order.
    pub nodes: Vec<NodeIndex>,
    /// What it computes.
    pub kind: Kind,
}

/// A network lowered to instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    instructions: Vec<Instruction>,
    buffers: Vec<Buffer>,
    parameters: Vec<Parameter>,
    batch_norms: Vec<BatchNormInfo>,
    images: BufferId,
    image_shape: Shape,
    classes: usize,
    arena_elements: usize,
}

/// What is known of one batch norm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchNormInfo {
    /// Its node, as its running statistics are called after it.
    pub name: String,
    /// Its channels.
    pub channels: usize,
}

impl Plan {
    /// Lowers `network`.
    ///
    /// # Errors
    /// The network has a node that no instruction covers, or does not end in one loss.
    pub fn new(network: &Network) -> Result<Self, PlanError> {
        build::plan(network)
    }

    /// The instructions in forward order.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// All buffers.
    #[must_use]
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The parameters in forward order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The places of all parameters, in forward order.
    pub fn parameter_ids(&self) -> impl ExactSizeIterator<Item = ParameterId> + use<> {
        (0..self.parameters.len()).map(ParameterId)
    }

    /// The batch norms in forward order.
    #[must_use]
    pub fn batch_norms(&self) -> &[BatchNormInfo] {
        &self.batch_norms
    }

    /// Where the images go.
    #[must_use]
    pub const fn images(&self) -> BufferId {
        self.images
    }

    /// The shape of an image.
    #[must_use]
    pub const fn image_shape(&self) -> Shape {
        self.image_shape
    }

    /// How many classes there are.
    #[must_use]
    pub const fn classes(&self) -> usize {
        self.classes
    }

    /// The size of the arena, in elements for each image.
    #[must_use]
    pub const fn arena_elements(&self) -> usize {
        self.arena_elements
    }

    /// The moments of a step: forward of instruction i is moment i, backward of the last is the
    /// moment after, and backward of instruction i is this number − 1 − i.
    #[must_use]
    pub fn moments(&self) -> usize {
        2 * self.instructions.len()
    }
}

#[cfg(test)]
impl Plan {
    /// Instructions between buffers that share no memory, for tests of executors; the first buffer
    /// is that of the images.
    pub(crate) fn without_sharing(
        kinds: Vec<Kind>,
        elements: &[usize],
        parameters: Vec<Parameter>,
        batch_norms: Vec<BatchNormInfo>,
        classes: usize,
    ) -> Self {
        let mut arena_elements = 0;
        let buffer = |(index, &elements): (usize, &usize)| {
            let (name, offset) = (format!("buffer {index}"), arena_elements);
            arena_elements += elements.next_multiple_of(16);
            Buffer { name, elements, offset, lifetime: 0..=2 * kinds.len() - 1 }
        };
        let buffers = elements.iter().enumerate().map(buffer).collect();
        let instruction = |(index, kind)| Instruction {
            name: format!("instruction {index}"),
            nodes: Vec::new(),
            kind,
        };
        Self {
            buffers,
            instructions: kinds.into_iter().enumerate().map(instruction).collect(),
            parameters,
            batch_norms,
            images: BufferId(0),
            image_shape: Shape::new(elements[0] as u64, 1, 1),
            classes,
            arena_elements,
        }
    }
}

//! Parameters: their names and shapes outside, their order of elements inside.
//!
//! Outside, in checkpoints, a tensor is as PyTorch has it. Inside, the weights of a convolution lie
//! as `groups × kernel × kernel × inputs × outputs`, which is the right-hand matrix of its product
//! row by row, and those of a linear layer as `height × width × channels × outputs`.

use foretrain_sim::workload::{Operation, ParameterTensor, Shape};

use crate::optimizer::Role;

/// A parameter's place in [`Plan::parameters`](super::Plan::parameters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParameterId(pub(crate) usize);

impl ParameterId {
    /// The place.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// How the elements inside follow from those outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterLayout {
    /// The same order.
    Vector,
    /// Outside `outputs × inputs of a group × kernel × kernel`.
    Convolution {
        /// Groups.
        groups: usize,
        /// Output channels of a group.
        outputs: usize,
        /// Input channels of a group.
        inputs: usize,
        /// Kernel rows times kernel columns.
        positions: usize,
    },
    /// Outside `outputs × channels × height × width`, the last three of the input.
    Linear {
        /// Outputs.
        outputs: usize,
        /// Channels of the input.
        channels: usize,
        /// Height times width of the input.
        pixels: usize,
    },
}

/// A parameter tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, as torchvision or the published network has it.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its dimensions outside.
    pub shape: Vec<usize>,
    /// The order of its elements inside.
    pub layout: ParameterLayout,
}

impl Parameter {
    pub(super) fn new(tensor: &ParameterTensor, operation: Operation, input: Shape) -> Self {
        let is_weight = tensor.shape.len() > 1;
        let role = match operation {
            Operation::BatchNorm => Role::BatchNorm,
            _ if is_weight => Role::Weight,
            _ => Role::Bias,
        };
        let layout = match operation {
            Operation::Convolution { channels, kernel, groups, .. } if is_weight => {
                ParameterLayout::Convolution {
                    groups: groups as usize,
                    outputs: (channels / groups) as usize,
                    inputs: (input.channels / groups) as usize,
                    positions: (kernel * kernel) as usize,
                }
            }
            Operation::Linear { outputs } if is_weight => ParameterLayout::Linear {
                outputs: outputs as usize,
                channels: input.channels as usize,
                pixels: (input.height * input.width) as usize,
            },
            _ => ParameterLayout::Vector,
        };
        let shape = tensor.shape.iter().map(|&size| size as usize).collect();
        Self { name: tensor.name.clone(), role, shape, layout }
    }

    /// How many elements it has.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many inputs each output is the sum of; 1 for vectors.
    #[must_use]
    pub const fn fan_in(&self) -> usize {
        match self.layout {
            ParameterLayout::Vector => 1,
            ParameterLayout::Convolution { inputs, positions, .. } => inputs * positions,
            ParameterLayout::Linear { channels, pixels, .. } => channels * pixels,
        }
    }

    /// Elements in the order inside, from those in PyTorch's order.
    ///
    /// # Panics
    /// If there are not as many as the tensor has.
    #[must_use]
    pub fn from_torch<T: Copy>(&self, outside: &[T]) -> Vec<T> {
        assert_eq!(outside.len(), self.elements(), "{}", self.name);
        self.sources().map(|source| outside[source]).collect()
    }

    /// Elements in PyTorch's order, from those in the order inside.
    ///
    /// # Panics
    /// If there are not as many as the tensor has.
    #[must_use]
    pub fn to_torch<T: Copy + Default>(&self, inside: &[T]) -> Vec<T> {
        assert_eq!(inside.len(), self.elements(), "{}", self.name);
        let mut outside = vec![T::default(); inside.len()];
        for (value, source) in inside.iter().zip(self.sources()) {
            outside[source] = *value;
        }
        outside
    }

    /// For each element inside, in order, its index outside.
    fn sources(&self) -> Box<dyn Iterator<Item = usize>> {
        match self.layout {
            ParameterLayout::Vector => Box::new(0..self.elements()),
            ParameterLayout::Convolution { groups, outputs, inputs, positions } => {
                let element = move |group, position, input, output| {
                    ((group * outputs + output) * inputs + input) * positions + position
                };
                Box::new((0..groups * positions * inputs).flat_map(move |row| {
                    let (rest, input) = (row / inputs, row % inputs);
                    let (group, position) = (rest / positions, rest % positions);
                    (0..outputs).map(move |output| element(group, position, input, output))
                }))
            }
            ParameterLayout::Linear { outputs, channels, pixels } => {
                Box::new((0..pixels * channels).flat_map(move |row| {
                    let (pixel, channel) = (row / channels, row % channels);
                    (0..outputs).map(move |output| (output * channels + channel) * pixels + pixel)
                }))
            }
        }
    }
}

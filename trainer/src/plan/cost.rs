//! What an instruction costs at least on a device with far more operations than memory accesses: the
//! bytes that its kernels must move, and its multiplications and additions.
//!
//! Counted are the kernels of `executor::cuda`: a batch norm reads its input twice forward (statistics,
//! then result) and all that it reads twice backward; a convolution's two gradients each read the
//! gradient of the output. What fits the caches between two kernels is counted all the same, so these
//! are estimates, and lower bounds only where nothing fits.

use super::{Kind, Operand};

/// Work of an instruction on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes read and written.
    pub bytes: u64,
    /// Multiplications and additions.
    pub operations: u64,
}

/// Elements of activations an image, elements of parameters, operations an image.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    activations: usize,
    parameters: usize,
    /// Bytes that are no elements, an image.
    bytes: usize,
    operations: usize,
}

impl Count {
    const fn cost(self, images: u64, element_bytes: u64) -> Cost {
        let elements = self.activations as u64 * images + self.parameters as u64;
        Cost {
            bytes: elements * element_bytes + self.bytes as u64 * images,
            operations: self.operations as u64 * images,
        }
    }
}

/// How often a gradient passes: once if it is written, twice if it is added.
fn passes(operand: Operand) -> usize {
    operand.gradient.map_or(0, |target| 1 + usize::from(target.accumulate))
}

impl Kind {
    /// What forward costs for `images` images in training, of elements of so many bytes.
    #[must_use]
    pub fn forward_cost(&self, images: u64, element_bytes: u64) -> Cost {
        let count = match *self {
            Self::Convolution { ref window, .. } => Count {
                activations: window.input_elements() + window.output_elements(),
                parameters: window.output_channels * window.depth(),
                operations: 2 * window.output_elements() * window.depth(),
                ..Count::default()
            },
            Self::BatchNorm { shape, residual, .. } => {
                let elements = shape.elements() as usize;
                Count {
                    activations: (3 + usize::from(residual.is_some())) * elements,
                    ..Count::default()
                }
            }
            Self::MaxPool { ref window, .. } => Count {
                activations: window.input_elements() + window.output_elements(),
                bytes: window.output_elements(),
                ..Count::default()
            },
            Self::GlobalAveragePool { shape, .. } => Count {
                activations: (shape.elements() + shape.channels) as usize,
                ..Count::default()
            },
            Self::Linear { inputs, outputs, .. } => Count {
                activations: inputs + outputs,
                parameters: inputs * outputs,
                operations: 2 * inputs * outputs,
                ..Count::default()
            },
            // Small, or as large as what they look at, which no instruction here says.
            Self::Relu { .. } | Self::Dropout { .. } | Self::Loss { .. } => Count::default(),
        };
        count.cost(images, element_bytes)
    }

    /// What backward costs for `images` images, of elements of so many bytes.
    #[must_use]
    pub fn backward_cost(&self, images: u64, element_bytes: u64) -> Cost {
        let count = match *self {
            Self::Convolution { ref window, input, .. } => {
                let (x, y) = (window.input_elements(), window.output_elements());
                let filters = window.output_channels * window.depth();
                let gradients = 1 + usize::from(input.gradient.is_some());
                Count {
                    activations: x + gradients * y + passes(input) * x,
                    parameters: gradients * filters,
                    operations: gradients * 2 * y * window.depth(),
                    ..Count::default()
                }
            }
            Self::BatchNorm { shape, input, residual, relu, .. } => {
                let elements = shape.elements() as usize;
                let read = 2 * (2 + usize::from(relu));
                let written = passes(input) + residual.map_or(0, passes);
                Count { activations: (read + written) * elements, ..Count::default() }
            }
            Self::MaxPool { ref window, input, .. } => Count {
                activations: window.output_elements() + passes(input) * window.input_elements(),
                bytes: window.output_elements(),
                ..Count::default()
            },
            Self::GlobalAveragePool { shape, input, .. } => Count {
                activations: shape.channels as usize + passes(input) * shape.elements() as usize,
                ..Count::default()
            },
            Self::Linear { inputs, outputs, input, .. } => {
                let gradients = 1 + usize::from(input.gradient.is_some());
                Count {
                    activations: inputs + gradients * outputs + passes(input) * inputs,
                    parameters: gradients * inputs * outputs,
                    operations: gradients * 2 * inputs * outputs,
                    ..Count::default()
                }
            }
            Self::Relu { .. } | Self::Dropout { .. } | Self::Loss { .. } => Count::default(),
        };
        count.cost(images, element_bytes)
    }
}

#[cfg(test)]
mod tests {
    use foretrain_sim::workload::{Architecture, Shape};

    use super::super::{GradientTarget, Output, ParameterId, Plan, Window};
    use super::*;
    use crate::plan::BufferId;

    /// 3 × 3 over 2 × 4 × 4, 5 outputs of 4 × 4: 32 in, 80 out, 90 filters, 80 · 18 products.
    #[test]
    fn a_convolution_by_hand() {
        let shape = |channels| Shape::new(channels, 4, 4);
        let window = Window::new(shape(2), shape(5), (3, 1, 1), 1);
        let kind = |gradient| Kind::Convolution {
            window,
            input: Operand { buffer: BufferId(0), gradient },
            output: Output { buffer: BufferId(1), gradient: BufferId(2) },
            weight: ParameterId(0),
            bias: None,
        };
        let none = kind(None);
        let bytes = 2 * (3 * (32 + 80) + 90);
        assert_eq!(none.forward_cost(3, 2), Cost { bytes, operations: 3 * 2 * 80 * 18 });
        assert_eq!(none.backward_cost(3, 2), Cost { bytes, operations: 3 * 2 * 80 * 18 });
        let added = kind(Some(GradientTarget { buffer: BufferId(3), accumulate: true }));
        let bytes = 2 * (3 * (32 + 80 + 80 + 2 * 32) + 2 * 90);
        assert_eq!(added.backward_cost(3, 2), Cost { bytes, operations: 2 * 3 * 2 * 80 * 18 });
    }

    /// ResNet-50 in half precision, counted apart: 53 convolutions with 11,113,984 outputs and
    /// 10,662,400 inputs an image (150,528 of the images), of which 5,519,360 elements are sums of
    /// blocks. Forward x + y, y for statistics, 2y + the residual for the result: 121 MB. Backward
    /// (y + x) twice, 3y and 4y for batch norms and the residual's gradient: 253 MB. There every batch
    /// norm has a ReLU, which the four of the downsampling have not, and no gradient is added.
    #[test]
    fn resnet_50_moves_what_was_counted_apart() {
        let architecture = Architecture::Resnet50;
        let plan = Plan::new(&architecture.network(architecture.published_size())).unwrap();
        let sum = |cost: fn(&Kind, u64, u64) -> Cost| {
            let costs =
                plan.instructions().iter().map(|instruction| cost(&instruction.kind, 256, 2));
            costs.fold(Cost::default(), |sum, cost| Cost {
                bytes: sum.bytes + cost.bytes,
                operations: sum.operations + cost.operations,
            })
        };
        let (forward, backward) = (sum(Kind::forward_cost), sum(Kind::backward_cost));
        let megabytes = |cost: Cost| cost.bytes as f64 / 256.0 / 1e6;
        assert!((megabytes(forward) / 121.0 - 1.0).abs() < 0.05, "{}", megabytes(forward));
        assert!((megabytes(backward) / 253.0 - 1.0).abs() < 0.1, "{}", megabytes(backward));
        // 4.089 G products an image; the gradient of the images is not wanted.
        let operations = forward.operations / 256;
        assert_eq!(operations, 2 * 4_089_184_256);
        let stem = 2 * 64 * 112 * 112 * 3 * 49;
        assert_eq!(backward.operations / 256, 2 * operations - stem);
    }
}

//! What a node costs: arithmetic and memory traffic.
//!
//! Counts are for unfused kernels, as PyTorch runs them: each operation reads its inputs from
//! memory and writes its output. For ResNet-50 that adds up to 474 MB of fp16 traffic an image.

use super::network::{Network, Node, NodeIndex, Operation};

/// Elements moved to and from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Elements of activations, for each image.
    pub per_image: u64,
    /// Elements of weights and their gradients, for each step whatever the batch.
    pub per_step: u64,
}

/// The cost of one node, forward and backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeCost {
    /// Floating-point operations forward, for each image; a multiply-add counts two.
    pub forward_flops: u64,
    /// Floating-point operations backward, for each image.
    pub backward_flops: u64,
    /// Memory traffic forward.
    pub forward_traffic: Traffic,
    /// Memory traffic backward.
    pub backward_traffic: Traffic,
    /// Whether the arithmetic is a matrix product, which tensor cores can do.
    pub matrix: bool,
    /// Elements of output that one image gives the kernel to work on in parallel.
    pub parallel_elements: u64,
    /// Kernels forward.
    pub forward_kernels: u32,
    /// Kernels backward.
    pub backward_kernels: u32,
}

impl Node {
    /// What the node costs.
    ///
    /// A convolution or linear layer costs 2·MACs forward, and the same twice backward (gradient of
    /// the data, gradient of the filter); the first layer needs no gradient of the data. Batch
    /// normalisation reads its input twice forward (statistics, then apply) and reads gradient and
    /// input twice backward (reduce, then apply). Gradients of data and filter are a kernel each.
    #[must_use]
    pub fn cost(&self) -> NodeCost {
        let input = self.input_shape.elements();
        let output = self.output_shape.elements();
        match self.operation {
            Operation::Convolution { kernel, groups, .. } => {
                let macs = output * (self.input_shape.channels / groups) * kernel * kernel;
                self.matrix_cost(macs)
            }
            Operation::Linear { .. } => self.matrix_cost(output * input),
            Operation::BatchNorm => vector_cost(output, (5, 8), (3 * output, 5 * output)),
            Operation::Relu => vector_cost(output, (1, 1), (2 * output, 3 * output)),
            Operation::Dropout => vector_cost(output, (1, 1), (3 * output, 3 * output)),
            Operation::Add => vector_cost(output, (1, 1), (3 * output, 2 * output)),
            Operation::MaxPool { kernel, .. } => {
                vector_cost(output, (kernel * kernel, 1), (input + output, input + 2 * output))
            }
            Operation::GlobalAveragePool => {
                vector_cost(input, (1, 1), (input + output, input + output))
            }
            Operation::Loss => vector_cost(input, (4, 2), (2 * input, 2 * input)),
            Operation::Input | Operation::Measured => NodeCost::default(),
        }
    }

    /// What the node costs in `network` where batch norms also do the ReLU and the join of a residual
    /// block that follow them: these are no kernels then, and of their traffic only the second operand
    /// of the join remains, read forward, and its gradient, written backward.
    #[must_use]
    pub fn fused_cost(&self, network: &Network) -> NodeCost {
        let output = self.output_shape.elements();
        let follows = |wanted: &[Operation]| {
            self.inputs.iter().any(|input| wanted.contains(&network.nodes()[input.get()].operation))
        };
        match self.operation {
            Operation::Relu if follows(&[Operation::BatchNorm, Operation::Add]) => {
                NodeCost::default()
            }
            Operation::Add if follows(&[Operation::BatchNorm]) => NodeCost {
                forward_kernels: 0,
                backward_kernels: 0,
                ..vector_cost(output, (1, 1), (output, output))
            },
            _ => self.cost(),
        }
    }

    fn matrix_cost(&self, macs: u64) -> NodeCost {
        let activations = self.input_shape.elements() + self.output_shape.elements();
        let weights = self.parameter_count();
        // Only the first layer reads the images, which need no gradient.
        let gradients = if self.inputs == [NodeIndex(0)] { 1 } else { 2 };
        NodeCost {
            forward_flops: 2 * macs,
            backward_flops: gradients * 2 * macs,
            forward_traffic: Traffic { per_image: activations, per_step: weights },
            backward_traffic: Traffic {
                per_image: gradients * activations,
                per_step: gradients * weights,
            },
            matrix: true,
            parallel_elements: self.output_shape.elements(),
            forward_kernels: 1,
            backward_kernels: u32::from(gradients == 2) + 1,
        }
    }
}

fn vector_cost(elements: u64, flops: (u64, u64), traffic: (u64, u64)) -> NodeCost {
    NodeCost {
        forward_flops: flops.0 * elements,
        backward_flops: flops.1 * elements,
        forward_traffic: Traffic { per_image: traffic.0, per_step: 0 },
        backward_traffic: Traffic { per_image: traffic.1, per_step: 0 },
        matrix: false,
        parallel_elements: elements,
        forward_kernels: 1,
        backward_kernels: 1,
    }
}

#[cfg(test)]
mod tests {
    use crate::workload::NetworkName;

    #[test]
    fn resnet50_has_4_089_gmac_as_published() {
        let network = NetworkName::Resnet50.network();
        let forward: u64 = network
            .nodes()
            .iter()
            .map(super::Node::cost)
            .filter(|c| c.matrix)
            .map(|c| c.forward_flops)
            .sum();
        assert_eq!(forward, 2 * 4_089_184_256);
    }

    #[test]
    fn the_first_layer_needs_no_gradient_of_the_images() {
        let network = NetworkName::Resnet50.network();
        let cost = |name: &str| network.node_named(name).unwrap().1.cost();
        assert_eq!(cost("conv1").backward_flops, cost("conv1").forward_flops);
        assert_eq!(cost("fc").backward_flops, 2 * cost("fc").forward_flops);
    }

    /// The oracle counts the traffic of ResNet-50 from its convolutions alone: with X the inputs
    /// and Y the outputs of all convolutions (10.512 M without the images, 11.114 M elements) and
    /// R the sums of the 16 residual blocks (5.519 M), in passes over each:
    /// convolution forward X+Y, backward 2(X+Y); batch norm 3Y and 5Y; ReLU 2 and 3, on all of Y
    /// but the shortcuts (1.505 M); add 3R and 2R: 474 MB less the shortcuts' ReLUs, at 2 bytes.
    #[test]
    fn resnet50_moves_474_mb_an_image() {
        let (x, y, r) = (10.512, 11.114, 5.519);
        let relu = y - 1.505;
        let oracle = 3.0 * (x + y) + 8.0 * y + 5.0 * relu + 5.0 * r;
        let network = NetworkName::Resnet50.network();
        let elements: u64 = network
            .nodes()
            .iter()
            .map(super::Node::cost)
            .map(|c| c.forward_traffic.per_image + c.backward_traffic.per_image)
            .sum();
        let ours = elements as f64 / 1e6;
        // Pools, the classifier and the stem's read of the images are not in the oracle.
        assert!((ours / oracle - 1.0).abs() < 0.02, "{ours} M elements, expected about {oracle}");
        assert!((2.0 * ours / 474.0 - 1.0).abs() < 0.05);
    }
}

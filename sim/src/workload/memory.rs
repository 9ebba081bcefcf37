//! What of a network's activations is in memory, in elements for each image.
//!
//! Two figures, between which every trainer lies that keeps what backward reads, instead of
//! computing it again or sending it to the host:
//!
//! - [`Network::kept_elements`]: what no kernels can do without;
//! - [`Network::peak_elements`]: the most that is alive at one moment of a step where each
//!   operation is a kernel, memory is given back after the last reader, and what can be computed in
//!   place is.

use std::collections::BTreeSet;

use super::network::{Network, Node, NodeIndex, Operation};

/// Memory that one value or gradient after the other lies in, and when it is needed.
#[derive(Debug, Clone, Copy)]
struct Slot {
    elements: u64,
    first: usize,
    last: usize,
}

impl Network {
    /// Elements that must stay in memory from the forward to the backward pass, for each image: the
    /// inputs of convolutions, linear layers and batch norms, whose values the gradients of filters
    /// and scales are computed from.
    ///
    /// Not among them: what only says where a gradient passes. The sign of a ReLU after a batch norm
    /// and the place of a window's largest value follow from the batch norm's input, one
    /// element at a time within a fused kernel.
    #[must_use]
    pub fn kept_elements(&self) -> u64 {
        let reads_values = |node: &&Node| {
            matches!(
                node.operation,
                Operation::Convolution { .. } | Operation::Linear { .. } | Operation::BatchNorm
            )
        };
        let kept: BTreeSet<NodeIndex> =
            self.nodes().iter().filter(reads_values).map(|node| node.inputs[0]).collect();
        kept.iter().map(|index| self.nodes()[index.get()].output_shape.elements()).sum()
    }

    /// The most elements of activations and their gradients that are alive at one moment, for each
    /// image.
    ///
    /// Node i of n works at moment i forward and 2n − 1 − i backward. A value lives from its node to
    /// its last reader, forward or backward; a gradient from the first that writes it to the node
    /// that it is of. Besides [`Network::kept_elements`] backward reads the output of a ReLU and of a
    /// dropout, both ends of a max pool, and the logits. A ReLU and the sum of a residual block
    /// overwrite their first input where nothing else reads it, and pass their gradient on in place.
    #[must_use]
    pub fn peak_elements(&self) -> u64 {
        let mut slots = Vec::new();
        self.place_values(&mut slots);
        self.place_gradients(&mut slots);
        // What begins to live less what has ended, moment by moment.
        let mut begins = vec![0; 2 * self.nodes().len() + 1];
        let mut ends = begins.clone();
        for slot in &slots {
            begins[slot.first] += slot.elements;
            ends[slot.last + 1] += slot.elements;
        }
        let (mut alive, mut peak) = (0, 0);
        for (begin, end) in begins.iter().zip(&ends) {
            alive = alive + begin - end;
            peak = peak.max(alive);
        }
        peak
    }

    /// The moment at which a node works backward.
    fn backward_moment(&self, index: usize) -> usize {
        2 * self.nodes().len() - 1 - index
    }

    /// A slot for each value, or that of the input it overwrites.
    fn place_values(&self, slots: &mut Vec<Slot>) {
        let mut readers = vec![0; self.nodes().len()];
        for input in self.nodes().iter().flat_map(|node| &node.inputs) {
            readers[input.get()] += 1;
        }
        let mut places: Vec<usize> = Vec::new();
        for (index, node) in self.nodes().iter().enumerate() {
            let overwritten = match node.operation {
                Operation::Relu | Operation::Add => node.inputs.first(),
                _ => None,
            };
            let place = match overwritten.filter(|input| readers[input.get()] == 1) {
                Some(input) => places[input.get()],
                None => {
                    slots.push(Slot { elements: elements(node), first: index, last: index });
                    slots.len() - 1
                }
            };
            places.push(place);
            let (reads_inputs, reads_output) = read_backward(node.operation);
            let backward = self.backward_moment(index);
            for input in &node.inputs {
                let last = &mut slots[places[input.get()]].last;
                *last = (*last).max(if reads_inputs { backward } else { index });
            }
            let last = &mut slots[place].last;
            *last = (*last).max(if reads_output { backward } else { index });
        }
    }

    /// A slot for each gradient, or that of the gradient it is the same as.
    fn place_gradients(&self, slots: &mut Vec<Slot>) {
        let mut places: Vec<Option<usize>> = vec![None; self.nodes().len()];
        for (index, node) in self.nodes().iter().enumerate().skip(1).rev() {
            let moment = self.backward_moment(index);
            let mut slot_of = |node: &Node| {
                slots.push(Slot { elements: elements(node), first: moment, last: moment });
                slots.len() - 1
            };
            let own = places[index].unwrap_or_else(|| slot_of(node));
            let is_passed_on = matches!(node.operation, Operation::Relu | Operation::Add);
            // The images need no gradient. Where there is one already, it is added to.
            for input in node.inputs.iter().map(|input| input.get()).filter(|input| *input > 0) {
                if places[input].is_none() {
                    let place = if is_passed_on { own } else { slot_of(&self.nodes()[input]) };
                    places[input] = Some(place);
                }
            }
            for place in node.inputs.iter().filter_map(|input| places[input.get()]).chain([own]) {
                slots[place].last = slots[place].last.max(moment);
            }
        }
    }
}

/// Elements of a node's output; what a layer that was only measured computes is not known.
const fn elements(node: &Node) -> u64 {
    match node.operation {
        Operation::Measured => 0,
        _ => node.output_shape.elements(),
    }
}

/// Whether backward reads a node's inputs, and its output.
const fn read_backward(operation: Operation) -> (bool, bool) {
    match operation {
        Operation::Convolution { .. }
        | Operation::Linear { .. }
        | Operation::BatchNorm
        | Operation::Loss => (true, false),
        Operation::Relu | Operation::Dropout => (false, true),
        Operation::MaxPool { .. } => (true, true),
        Operation::Input | Operation::GlobalAveragePool | Operation::Add | Operation::Measured => {
            (false, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Architecture, NetworkName, Shape, Size};
    use super::*;

    const FILTER: Operation = Operation::Convolution {
        channels: 5,
        kernel: 3,
        stride: 1,
        padding: 1,
        groups: 1,
        bias: false,
    };

    #[test]
    fn a_chain_by_hand() {
        // Images of 2·4·4 = 32 elements, then 5·4·4 = 80, a pool of 5·2·2 = 20, 7 logits.
        let mut network = Network::new("chain", Shape::new(2, 4, 4));
        network.then("conv", FILTER);
        network.then("bn", Operation::BatchNorm);
        network.then("relu", Operation::Relu);
        network.then("pool", Operation::MaxPool { kernel: 2, stride: 2, padding: 0 });
        network.then("fc", Operation::Linear { outputs: 7 });
        network.then("loss", Operation::Loss);
        // Inputs of conv, bn and fc.
        assert_eq!(network.kept_elements(), 32 + 80 + 20);
        // Most is alive when bn works backward, or the pool does: images, conv, relu = bn and pool,
        // with the gradients of pool and relu; then images and conv with two gradients of 80.
        let pool_backward = 32 + 80 + 80 + 20 + (20 + 80);
        let bn_backward = 32 + 80 + (80 + 80);
        assert_eq!(network.peak_elements(), pool_backward.max(bn_backward));
    }

    #[test]
    fn a_residual_block_by_hand() {
        // x = relu(conv(images)) is kept for the next convolution and read by the sum.
        let mut network = Network::new("block", Shape::new(5, 2, 2));
        let images = 20;
        network.then("stem", FILTER);
        let x = network.then("relu", Operation::Relu);
        let main = network.push("conv", FILTER, &[x]);
        network.push("add", Operation::Add, &[main, x]);
        network.then("fc", Operation::Linear { outputs: 3 });
        network.then("loss", Operation::Loss);
        // Inputs of stem, conv and fc, 20 elements each.
        assert_eq!(network.kept_elements(), 3 * images);
        // The sum overwrites the convolution's output. When fc works backward: images, x, sum,
        // logits' gradient (3), the sum's gradient, and the logits, read by the loss before, not.
        // When conv does, the sum's gradient is that of x too, which conv adds to: one gradient.
        assert_eq!(network.peak_elements(), 3 * images + 3 + images);
    }

    /// The oracle adds up tensors block by block. C: outputs of the convolutions, read by batch norms
    /// (11.114 M elements). A: what convolutions and the classifier read (the images' 0.151 M, the
    /// pool's output, a ReLU behind all but the last of each block's convolutions, and the sums of
    /// the blocks but the last).
    #[test]
    fn resnet50_keeps_21_m_elements_an_image() {
        let network = NetworkName::Resnet50.network();
        let (images, pool) = (3 * 224 * 224, 64 * 56 * 56);
        let (mut convolutions, mut read) = (64 * 112 * 112, images + pool + 2048);
        for (stage, (width, blocks)) in [(64, 3), (128, 4), (256, 6), (512, 3)].iter().enumerate() {
            let side = 56 >> stage;
            let (narrow, wide) = (width * side * side, 4 * width * side * side);
            // The first block of stages 2 to 4 reads twice the side in its 3×3 convolution.
            let first = if stage > 0 { 4 * narrow } else { narrow };
            convolutions += first + narrow + 2 * wide + (blocks - 1) * (2 * narrow + wide);
            read += first + narrow + (blocks - 1) * 2 * narrow + blocks * wide;
        }
        read -= 2048 * 7 * 7; // the last block's sum, which only the average reads
        assert_eq!(network.kept_elements(), convolutions + read);
        assert_eq!(convolutions, 11_113_984);
        // The ends of the pool and of the last ReLU, and gradients of the last layers, come on top.
        let peak = network.peak_elements();
        let ends = 64 * 112 * 112 + 2048 * 7 * 7;
        assert!(peak >= network.kept_elements() + ends, "{peak}");
        assert!(peak < (network.kept_elements() + ends) * 102 / 100, "{peak}");
    }

    #[test]
    fn of_measured_layers_only_the_images_are_known() {
        let image = Shape::new(3, 8, 8);
        let network = Network::measured("measured", image, vec![("a".to_owned(), Vec::new())]);
        assert_eq!((network.kept_elements(), network.peak_elements()), (0, 192));
    }

    proptest! {
        #[test]
        fn the_peak_holds_all_that_is_kept(
            blocks_per_stage in 1_u64..6, side in 70_u64..150, which in 0_usize..5,
        ) {
            let architecture = [
                Architecture::Resnet50,
                Architecture::Resnet18,
                Architecture::SmallResnet { blocks_per_stage },
                Architecture::Alexnet,
                Architecture::AlexnetBn { after_pool5: true },
            ][which];
            let size = |side| Size { image: Shape::new(3, side, side), classes: 10 };
            let (network, larger) =
                (architecture.network(size(side)), architecture.network(size(side + 40)));
            prop_assert!(network.kept_elements() <= network.peak_elements());
            prop_assert!(network.peak_elements() < larger.peak_elements());
            // Each value and each gradient apart would be more.
            let all: u64 = network.nodes().iter().map(|node| node.output_shape.elements()).sum();
            prop_assert!(network.peak_elements() < 2 * all);
        }
    }
}

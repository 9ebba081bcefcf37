//! AlexNet-BN as LARS was published on: NVIDIA Caffe's `models/alexnet_bn` (You, Gitman, Ginsburg,
//! arXiv 1708.03888), with the batch normalisation after pool5 that Jia et al. added
//! (arXiv 1807.11205).
//!
//! Input crops of 227 pixels; convolutions 2, 4 and 5 in two groups as in Krizhevsky et al. 2012;
//! convolutions without bias except the fifth; batch normalisation in place of local response
//! normalisation: 60,967,368 parameters (60,966,856 without the normalisation after pool5).

use super::network::{Network, Operation, Shape};

struct Layer {
    channels: u64,
    kernel: u64,
    stride: u64,
    padding: u64,
    groups: u64,
    pool: bool,
}

const LAYERS: [Layer; 5] = [
    Layer { channels: 96, kernel: 11, stride: 4, padding: 0, groups: 1, pool: true },
    Layer { channels: 256, kernel: 5, stride: 1, padding: 2, groups: 2, pool: true },
    Layer { channels: 384, kernel: 3, stride: 1, padding: 1, groups: 1, pool: false },
    Layer { channels: 384, kernel: 3, stride: 1, padding: 1, groups: 2, pool: false },
    Layer { channels: 256, kernel: 3, stride: 1, padding: 1, groups: 2, pool: true },
];

pub(super) fn alexnet_bn() -> Network {
    let mut network = Network::new("AlexNet-BN", Shape::new(3, 227, 227));
    for (layer, number) in LAYERS.iter().zip(1..) {
        let &Layer { channels, kernel, stride, padding, groups, pool } = layer;
        let bias = number == 5;
        let operation = Operation::Convolution { channels, kernel, stride, padding, groups, bias };
        network.then(&format!("conv{number}"), operation);
        network.then(&format!("bn{number}"), Operation::BatchNorm);
        network.then(&format!("relu{number}"), Operation::Relu);
        if pool {
            let operation = Operation::MaxPool { kernel: 3, stride: 2, padding: 0 };
            network.then(&format!("pool{number}"), operation);
        }
    }
    network.then("bn_pool5", Operation::BatchNorm);
    for number in [6, 7] {
        network.then(&format!("fc{number}"), Operation::Linear { outputs: 4096 });
        network.then(&format!("relu{number}"), Operation::Relu);
        network.then(&format!("drop{number}"), Operation::Dropout);
    }
    network.then("fc8", Operation::Linear { outputs: 1000 });
    network.then("loss", Operation::Loss);
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_add_up_by_hand() {
        let network = alexnet_bn();
        // Filters: outputs × inputs per group × kernel².
        let convolutions =
            96 * 3 * 121 + 256 * 48 * 25 + 384 * 256 * 9 + 384 * 192 * 9 + (256 * 192 * 9 + 256);
        let norms = 2 * (96 + 256 + 384 + 384 + 256 + 256);
        let linears = (9216 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000);
        assert_eq!(network.parameter_count(), convolutions + norms + linears);
        assert_eq!(network.parameter_count(), 60_967_368);
        // 5 filters, 1 convolution bias, 6 norms × 2, 3 linear layers × 2.
        assert_eq!(network.tensors().count(), 24);
    }
}

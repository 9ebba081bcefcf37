//! AlexNet (Krizhevsky et al. 2012) and AlexNet-BN.
//!
//! Both take crops of 227 pixels, with convolutions 2, 4 and 5 in two groups.
//!
//! - AlexNet-BN as LARS was published on: NVIDIA Caffe's `models/alexnet_bn` (You, Gitman,
//!   Ginsburg, arXiv 1708.03888), with the batch normalisation after pool5 that Jia et al. added
//!   (arXiv 1807.11205). Convolutions have no bias except the fifth: 60,967,368 parameters
//!   (60,966,856 without the normalisation after pool5).
//! - AlexNet without local response normalisation, as Caffe's `bvlc_alexnet` otherwise: every
//!   convolution has a bias, 60,965,224 parameters.

use super::Size;
use super::network::{Network, Operation};

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

/// Whether and where there is batch normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Normalisation {
    None,
    Convolutions { after_pool5: bool },
}

pub(super) fn alexnet(normalisation: Normalisation, size: Size) -> Network {
    let normalised = normalisation != Normalisation::None;
    let name = if normalised { "AlexNet-BN" } else { "AlexNet" };
    let mut network = Network::new(name, size.image);
    for (layer, number) in LAYERS.iter().zip(1..) {
        let &Layer { channels, kernel, stride, padding, groups, pool } = layer;
        let bias = !normalised || number == 5;
        let operation = Operation::Convolution { channels, kernel, stride, padding, groups, bias };
        network.then(&format!("conv{number}"), operation);
        if normalised {
            network.then(&format!("bn{number}"), Operation::BatchNorm);
        }
        network.then(&format!("relu{number}"), Operation::Relu);
        if pool {
            let operation = Operation::MaxPool { kernel: 3, stride: 2, padding: 0 };
            network.then(&format!("pool{number}"), operation);
        }
    }
    if normalisation == (Normalisation::Convolutions { after_pool5: true }) {
        network.then("bn_pool5", Operation::BatchNorm);
    }
    for number in [6, 7] {
        network.then(&format!("fc{number}"), Operation::Linear { outputs: 4096 });
        network.then(&format!("relu{number}"), Operation::Relu);
        network.then(&format!("drop{number}"), Operation::Dropout);
    }
    network.then("fc8", Operation::Linear { outputs: size.classes });
    network.then("loss", Operation::Loss);
    network
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;

    const IMAGENET: Size = Size { image: Shape::new(3, 227, 227), classes: 1000 };

    #[test]
    fn without_normalisation_it_has_caffes_size() {
        let network = alexnet(Normalisation::None, IMAGENET);
        // 5 filters with bias, 3 linear layers with bias.
        assert_eq!(network.parameter_count(), 60_965_224);
        assert_eq!(network.tensors().count(), 16);
    }

    #[test]
    fn normalisation_after_pool5_can_be_left_out() {
        let network = alexnet(Normalisation::Convolutions { after_pool5: false }, IMAGENET);
        assert_eq!(network.parameter_count(), 60_966_856);
    }

    #[test]
    fn parameters_add_up_by_hand() {
        let network = alexnet(Normalisation::Convolutions { after_pool5: true }, IMAGENET);
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

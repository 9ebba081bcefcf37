//! Networks as true architectures: what is computed, what is stored, what is sent.
//!
//! A [`Network`] is a list of typed nodes in forward order. Everything else follows from it:
//! parameter tensors (named as torchvision names them), forward and backward FLOPs, memory
//! traffic, activations kept for the backward pass, and the order in which gradients become ready.
//! The trainer executes the same lists that the simulator costs.

mod alexnet;
mod cost;
mod memory;
mod network;
mod resnet;

pub use cost::{NodeCost, Traffic};
pub use network::{Network, Node, NodeIndex, Operation, ParameterTensor, Shape};

use std::sync::OnceLock;

use self::alexnet::Normalisation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The networks a scenario can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkName {
    /// ResNet-50 v1.5 (stride in the 3×3 convolution), 25,557,032 parameters.
    Resnet50,
    /// ResNet-18, 11,689,512 parameters.
    Resnet18,
    /// AlexNet without local response normalisation, 60,965,224 parameters.
    Alexnet,
    /// AlexNet with batch normalisation after each convolution and after pool5, 60,967,368
    /// parameters.
    AlexnetBn,
}

impl NetworkName {
    /// How a scenario spells them.
    pub const NAMES: [&'static str; 4] = ["resnet50", "resnet18", "alexnet", "alexnet-bn"];

    /// The architecture, for ImageNet.
    #[must_use]
    pub fn network(self) -> Network {
        // Built once each: a search resolves thousands of points.
        static BUILT: [OnceLock<Network>; 4] = [const { OnceLock::new() }; 4];
        let (place, architecture) = match self {
            Self::Resnet50 => (0, Architecture::Resnet50),
            Self::Resnet18 => (1, Architecture::Resnet18),
            Self::Alexnet => (2, Architecture::Alexnet),
            Self::AlexnetBn => (3, Architecture::AlexnetBn { after_pool5: true }),
        };
        let build = || architecture.network(architecture.published_size());
        BUILT[place].get_or_init(build).clone()
    }
}

/// What a network is for: the images and the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The shape of an image.
    pub image: Shape,
    /// How many classes there are.
    pub classes: u64,
}

/// The networks there are, for images of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// ResNet-50 v1.5.
    Resnet50,
    /// ResNet-18.
    Resnet18,
    /// The residual network for small images with this many basic blocks in each of three stages;
    /// it has 6n + 2 layers.
    SmallResnet {
        /// Blocks of a stage, at least 1.
        blocks_per_stage: u64,
    },
    /// AlexNet without local response normalisation.
    Alexnet,
    /// AlexNet with batch normalisation.
    AlexnetBn {
        /// Whether there is one after pool5 too, as Jia et al. added it.
        after_pool5: bool,
    },
}

impl Architecture {
    /// The images and classes it was published for; those of ImageNet, and of CIFAR-10 for the
    /// networks for small images.
    #[must_use]
    pub const fn published_size(self) -> Size {
        match self {
            Self::Resnet50 | Self::Resnet18 => {
                Size { image: Shape::new(3, 224, 224), classes: 1000 }
            }
            Self::SmallResnet { .. } => Size { image: Shape::new(3, 32, 32), classes: 10 },
            Self::Alexnet | Self::AlexnetBn { .. } => {
                Size { image: Shape::new(3, 227, 227), classes: 1000 }
            }
        }
    }

    /// The fewest pixels an image must have each way, so that every layer has an output.
    #[must_use]
    pub const fn side_min(self) -> u64 {
        match self {
            Self::Resnet50 | Self::Resnet18 | Self::SmallResnet { .. } => 1,
            // (((67 − 11)/4 + 1 − 3)/2 + 1 − 3)/2 + 1 = 3, which pool5 makes 1.
            Self::Alexnet | Self::AlexnetBn { .. } => 67,
        }
    }

    /// The network for images and classes of `size`.
    ///
    /// # Panics
    /// If a side of the images is less than [`Architecture::side_min`].
    #[must_use]
    pub fn network(self, size: Size) -> Network {
        let side = size.image.height.min(size.image.width);
        assert!(side >= self.side_min(), "images of {side} pixels are too small");
        match self {
            Self::Resnet50 => resnet::resnet50(size),
            Self::Resnet18 => resnet::resnet18(size),
            Self::SmallResnet { blocks_per_stage } => resnet::small_resnet(blocks_per_stage, size),
            Self::Alexnet => alexnet::alexnet(Normalisation::None, size),
            Self::AlexnetBn { after_pool5 } => {
                alexnet::alexnet(Normalisation::Convolutions { after_pool5 }, size)
            }
        }
    }
}

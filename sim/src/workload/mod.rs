//! Networks as true architectures: what is computed, what is stored, what is sent.
//!
//! A [`Network`] is a list of typed nodes in forward order. Everything else follows from it:
//! parameter tensors (named as torchvision names them), forward and backward FLOPs, memory
//! traffic, activations kept for the backward pass, and the order in which gradients become ready.
//! The trainer executes the same lists that the simulator costs.

mod alexnet;
mod cost;
mod network;
mod resnet;

pub use cost::{NodeCost, Traffic};
pub use network::{Network, Node, NodeIndex, Operation, ParameterTensor, Shape};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The networks this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkName {
    /// ResNet-50 v1.5 (stride in the 3×3 convolution), 25,557,032 parameters.
    Resnet50,
    /// AlexNet with batch normalisation after each convolution and after pool5, 60,967,368
    /// parameters.
    AlexnetBn,
}

impl NetworkName {
    /// The architecture.
    #[must_use]
    pub fn network(self) -> Network {
        match self {
            Self::Resnet50 => resnet::resnet50(),
            Self::AlexnetBn => alexnet::alexnet_bn(),
        }
    }
}

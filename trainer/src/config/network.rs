//! `[network]`: what is trained.

use std::path::PathBuf;

use foretrain_sim::located::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The networks that can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelName {
    /// ResNet-18 of torchvision.
    Resnet18,
    /// ResNet-50 v1.5 of torchvision.
    Resnet50,
    /// The small ResNet for CIFAR of He et al. 2015 (arXiv 1512.03385, section 4.2).
    ResnetCifar,
    /// AlexNet.
    Alexnet,
    /// AlexNet with batch normalisation (You et al. 2017, arXiv 1708.03888).
    AlexnetBn,
}

impl ModelName {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet50 => "resnet50",
            Self::ResnetCifar => "resnet-cifar",
            Self::Alexnet => "alexnet",
            Self::AlexnetBn => "alexnet-bn",
        }
    }

    const fn is_resnet(self) -> bool {
        matches!(self, Self::Resnet18 | Self::Resnet50 | Self::ResnetCifar)
    }

    const fn has_batch_norm(self) -> bool {
        !matches!(self, Self::Alexnet)
    }

    /// Pixels of a side, where the data do not say.
    const fn image_size(self) -> u32 {
        match self {
            Self::Resnet18 | Self::Resnet50 => 224,
            Self::ResnetCifar => 32,
            Self::Alexnet | Self::AlexnetBn => 227,
        }
    }

    /// The smallest image of which anything is left after the last pooling: five halvings, two, or
    /// AlexNet's first convolution (11, stride 4) and three poolings (3, stride 2).
    const fn image_size_min(self) -> u32 {
        match self {
            Self::Resnet18 | Self::Resnet50 => 32,
            Self::ResnetCifar => 4,
            Self::Alexnet | Self::AlexnetBn => 67,
        }
    }
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The network.
    pub model: ModelName,
    /// Layers of `resnet-cifar`: 6n + 2, such as 20, 32, 44, 56; 20 by default.
    pub depth: Option<u32>,
    /// Outputs; as many as the data have classes by default.
    #[schemars(range(min = 1))]
    pub classes: Option<u32>,
    /// Pixels of a side of the input; the data's where all their images have one size (32 for CIFAR,
    /// 28 for IDX), else 224 for ResNets and 227 for AlexNet.
    #[schemars(range(min = 4))]
    pub image_size: Option<u32>,
    /// Whether `alexnet-bn` normalises after its last pooling too, as Jia et al. 2018 (arXiv
    /// 1807.11205) do; true by default.
    pub batch_norm_after_pool5: Option<bool>,
    /// The weight of a new batch in the running mean and variance, as in PyTorch; 0.1 by default.
    pub batch_norm_momentum: Option<f64>,
    /// What is added to variances; 1e-5 by default.
    pub batch_norm_epsilon: Option<f64>,
    /// Images that are normalised together; the batch of a rank by default, of which it must be a
    /// part. The same span on every number of ranks gives the same training.
    #[schemars(range(min = 1))]
    pub batch_norm_span: Option<u32>,
    /// Whether the last batch norm of every residual block starts with a scale of 0 (Goyal et al.
    /// 2017, arXiv 1706.02677, section 5.1); true by default. ResNets only.
    pub zero_gamma: Option<bool>,
    /// The share of outputs that AlexNet drops after its first two fully connected layers; 0.5 by
    /// default.
    pub dropout: Option<f64>,
    /// A file of weights (safetensors, torchvision's names) to start from; random by default.
    pub weights: Option<PathBuf>,
}

impl NetworkConfig {
    /// Layers of `resnet-cifar`.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth.unwrap_or(20)
    }

    /// The weight of a new batch in running statistics.
    #[must_use]
    pub fn batch_norm_momentum(&self) -> f64 {
        self.batch_norm_momentum.unwrap_or(0.1)
    }

    /// What is added to variances.
    #[must_use]
    pub fn batch_norm_epsilon(&self) -> f64 {
        self.batch_norm_epsilon.unwrap_or(1e-5)
    }

    /// Whether `alexnet-bn` normalises after its last pooling.
    #[must_use]
    pub fn batch_norm_after_pool5(&self) -> bool {
        self.model == ModelName::AlexnetBn && self.batch_norm_after_pool5.unwrap_or(true)
    }

    /// Whether the last scale of every residual block starts at 0.
    #[must_use]
    pub fn zero_gamma(&self) -> bool {
        self.model.is_resnet() && self.zero_gamma.unwrap_or(true)
    }

    /// The share of outputs that are dropped; 0 for a network without dropout.
    #[must_use]
    pub fn dropout(&self) -> f64 {
        if self.model.is_resnet() { 0.0 } else { self.dropout.unwrap_or(0.5) }
    }

    /// Pixels of a side of the input, of data that may have a size.
    pub(super) fn image_size(&self, of_data: Option<u32>) -> u32 {
        self.image_size.or(of_data).unwrap_or(self.model.image_size())
    }

    pub(super) fn check(&self, image_size: u32) -> Result<(), Problem> {
        let model = self.model;
        for (key, given, wanted, fits) in [
            ("depth", self.depth.is_some(), "resnet-cifar", model == ModelName::ResnetCifar),
            (
                "batch_norm_after_pool5",
                self.batch_norm_after_pool5.is_some(),
                "alexnet-bn",
                model == ModelName::AlexnetBn,
            ),
            ("zero_gamma", self.zero_gamma.is_some(), "ResNets", model.is_resnet()),
            ("dropout", self.dropout.is_some(), "AlexNet", !model.is_resnet()),
            (
                "batch_norm_momentum",
                self.batch_norm_momentum.is_some(),
                "networks with batch norm",
                model.has_batch_norm(),
            ),
            (
                "batch_norm_epsilon",
                self.batch_norm_epsilon.is_some(),
                "networks with batch norm",
                model.has_batch_norm(),
            ),
            (
                "batch_norm_span",
                self.batch_norm_span.is_some(),
                "networks with batch norm",
                model.has_batch_norm(),
            ),
        ] {
            if given && !fits {
                let name = model.name();
                let problem =
                    format!("this is for {wanted}, and the model is {name}: leave it out");
                return Err(Problem::new(&format!("network.{key}"), problem));
            }
        }
        let depth = self.depth();
        let problem = format!("{depth}, expected 6n + 2: 8, 14, 20, 32, 44, 56, 110, …");
        require((8..=1202).contains(&depth) && depth % 6 == 2, "depth", &problem)?;
        let minimum = model.image_size_min();
        let problem = format!("{image_size}, expected at least {minimum} for {}", model.name());
        require(image_size >= minimum, "image_size", &problem)?;
        let problem = "0, expected at least 1";
        require(self.classes != Some(0), "classes", problem)?;
        require(self.batch_norm_span != Some(0), "batch_norm_span", problem)?;
        let momentum = self.batch_norm_momentum();
        let problem = format!("{momentum}, expected above 0 and at most 1");
        require(momentum > 0.0 && momentum <= 1.0, "batch_norm_momentum", &problem)?;
        let epsilon = self.batch_norm_epsilon();
        let problem = format!("{epsilon}, expected a finite number above 0");
        require(epsilon.is_finite() && epsilon > 0.0, "batch_norm_epsilon", &problem)?;
        let dropout = self.dropout();
        let problem = format!("{dropout}, expected at least 0 and below 1");
        require((0.0..1.0).contains(&dropout), "dropout", &problem)
    }
}

fn require(holds: bool, key: &str, problem: &str) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::new(&format!("network.{key}"), problem)) }
}

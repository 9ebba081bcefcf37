//! The weights of a network: single-precision masters, first values, and candle tensors of them.
//!
//! First values, as published:
//!
//! - ResNets: filters are normal with variance 2 / (kernel² · outputs) (He et al. 2015,
//!   arXiv 1502.01852, in the form that fb.resnet.torch and torchvision use); the classifier is
//!   normal with deviation 0.01, biases are 0; γ = 1 and β = 0, but γ = 0 in the last batch norm of
//!   each residual block (Goyal et al. 2017, arXiv 1706.02677, section 5.1).
//! - AlexNet-BN: filters likewise; biases and the linear layers as in AlexNet.
//! - AlexNet: as in Caffe's `bvlc_alexnet`: filters are normal with deviation 0.01, those of the
//!   hidden linear layers with 0.005, the classifier's with 0.01; biases are 0.1 in the second,
//!   fourth and fifth convolution and the hidden linear layers, elsewhere 0.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use foretrain_sim::random::Streams;
use statrs::distribution::Normal;

use crate::checkpoint::Tensors;
use crate::optimizer::Role;
use crate::plan::{Kind, Parameter, ParameterId, ParameterLayout, Plan};

/// Master weights, in the order inside; see [`crate::plan::Parameter`].
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    plan: Arc<Plan>,
    masters: Vec<Vec<f32>>,
}

/// A tensor that does not fit the network.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It is not there.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// It has the wrong number of elements.
    #[error("tensor `{name}` has {found} elements, expected {expected}")]
    Elements {
        /// Its name.
        name: String,
        /// What it has.
        found: usize,
        /// What it must have.
        expected: usize,
    },
    /// candle refused it.
    #[error("tensor `{name}`: {error}")]
    Tensor {
        /// Its name.
        name: String,
        /// Why.
        error: candle_core::Error,
    },
}

impl Weights {
    /// First values that follow from the seed of `streams`; `zero_gamma` as in the module's page.
    #[must_use]
    pub fn initial(plan: &Arc<Plan>, streams: &Streams, zero_gamma: bool) -> Self {
        let scheme = Scheme::of(plan);
        let mut masters = Vec::new();
        for parameter in plan.parameters() {
            let values = match scheme.deviation(parameter) {
                Some(deviation) => {
                    // In PyTorch's order, so that they do not depend on the order inside.
                    let outside = normal(streams, &parameter.name, deviation, parameter.elements());
                    parameter.from_torch(&outside)
                }
                None => vec![scheme.constant(parameter); parameter.elements()],
            };
            masters.push(values);
        }
        if zero_gamma {
            for instruction in plan.instructions() {
                if let Kind::BatchNorm { residual: Some(_), scale, .. } = instruction.kind {
                    masters[scale.get()].fill(0.0);
                }
            }
        }
        Self { plan: Arc::clone(plan), masters }
    }

    /// Weights that a device has learnt, in the order of the plan's parameters.
    pub(crate) fn from_masters(plan: &Arc<Plan>, masters: Vec<Vec<f32>>) -> Self {
        Self { plan: Arc::clone(plan), masters }
    }

    /// The weights of a parameter.
    #[must_use]
    pub fn of(&self, parameter: ParameterId) -> &[f32] {
        &self.masters[parameter.get()]
    }

    /// All weights, in the order of the plan's parameters.
    pub fn masters_mut(&mut self) -> impl Iterator<Item = (ParameterId, &mut Vec<f32>)> {
        self.masters.iter_mut().enumerate().map(|(index, values)| (ParameterId(index), values))
    }

    /// Tensors named and shaped as in PyTorch.
    ///
    /// # Errors
    /// candle refuses, as when memory runs out.
    pub fn to_tensors(&self) -> Result<Tensors, WeightsError> {
        let parameters = self.plan.parameters().iter().zip(&self.masters);
        parameters
            .map(|(parameter, values)| {
                let tensor = tensor(parameter, parameter.to_torch(values))?;
                Ok((parameter.name.clone(), tensor))
            })
            .collect()
    }

    /// Takes the weights from tensors named as in PyTorch; others are ignored.
    ///
    /// # Errors
    /// One is missing or of another size.
    pub fn from_tensors(plan: &Arc<Plan>, tensors: &Tensors) -> Result<Self, WeightsError> {
        let masters = plan.parameters().iter().map(|parameter| {
            let outside = elements(tensors, &parameter.name, parameter.elements())?;
            Ok(parameter.from_torch(&outside))
        });
        Ok(Self { plan: Arc::clone(plan), masters: masters.collect::<Result<_, _>>()? })
    }
}

/// The elements of a tensor, in single precision.
///
/// # Errors
/// It is missing or of another size.
pub fn elements(tensors: &Tensors, name: &str, expected: usize) -> Result<Vec<f32>, WeightsError> {
    let tensor = tensors.get(name).ok_or_else(|| WeightsError::Missing(name.to_owned()))?;
    let values = tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1::<f32>())
        .map_err(|error| WeightsError::Tensor { name: name.to_owned(), error })?;
    if values.len() == expected {
        return Ok(values);
    }
    Err(WeightsError::Elements { name: name.to_owned(), found: values.len(), expected })
}

fn tensor(parameter: &Parameter, values: Vec<f32>) -> Result<Tensor, WeightsError> {
    Tensor::from_vec(values, parameter.shape.as_slice(), &Device::Cpu)
        .map_err(|error| WeightsError::Tensor { name: parameter.name.clone(), error })
}

fn normal(streams: &Streams, name: &str, deviation: f64, elements: usize) -> Vec<f32> {
    // Deviations are positive and finite, for which there is a distribution.
    let Ok(distribution) = Normal::new(0.0, deviation) else { return vec![0.0; elements] };
    let stream = streams.stream(name, "initial weights");
    let draws = rand::RngExt::sample_iter(stream, distribution);
    draws.take(elements).map(|draw: f64| draw as f32).collect()
}

/// Whose first values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Resnet,
    AlexnetBn,
    Alexnet,
}

impl Scheme {
    /// AlexNets have hidden linear layers; batch norms tell the two apart.
    fn of(plan: &Plan) -> Self {
        let linears = plan.instructions().iter();
        let linears = linears.filter(|i| matches!(i.kind, Kind::Linear { .. })).count();
        match (linears, plan.batch_norms().is_empty()) {
            (0 | 1, _) => Self::Resnet,
            (_, false) => Self::AlexnetBn,
            (_, true) => Self::Alexnet,
        }
    }

    /// The deviation of a parameter's first values; none if all are the same.
    fn deviation(self, parameter: &Parameter) -> Option<f64> {
        match (parameter.role, parameter.layout) {
            (Role::Weight, ParameterLayout::Convolution { groups, outputs, positions, .. }) => {
                Some(match self {
                    Self::Alexnet => 0.01,
                    _ => (2.0 / (positions * groups * outputs) as f64).sqrt(),
                })
            }
            (Role::Weight, _) if self != Self::Resnet && is_hidden(parameter) => Some(0.005),
            (Role::Weight, _) => Some(0.01),
            _ => None,
        }
    }

    fn constant(self, parameter: &Parameter) -> f32 {
        match parameter.role {
            Role::BatchNorm if parameter.name.ends_with(".weight") => 1.0,
            Role::Bias if self != Self::Resnet && starts_positive(parameter) => 0.1,
            _ => 0.0,
        }
    }
}

/// A linear layer of an AlexNet before the classifier.
fn is_hidden(parameter: &Parameter) -> bool {
    ["fc6.", "fc7."].iter().any(|layer| parameter.name.starts_with(layer))
}

fn starts_positive(parameter: &Parameter) -> bool {
    let convolutions = ["conv2.", "conv4.", "conv5."];
    is_hidden(parameter) || convolutions.iter().any(|layer| parameter.name.starts_with(layer))
}

#[cfg(test)]
mod tests {
    use foretrain_sim::workload::{Architecture, Shape, Size};

    use super::*;

    fn initial(architecture: Architecture, seed: u64, zero_gamma: bool) -> (Arc<Plan>, Weights) {
        let size = Size { image: Shape::new(3, 67, 67), classes: 10 };
        let plan = Arc::new(Plan::new(&architecture.network(size)).unwrap());
        let weights = Weights::initial(&plan, &Streams::new(seed), zero_gamma);
        (plan, weights)
    }

    fn values<'a>(plan: &Plan, weights: &'a Weights, name: &str) -> &'a [f32] {
        let index = plan.parameters().iter().position(|p| p.name == name).unwrap();
        &weights.masters[index]
    }

    fn deviation(values: &[f32]) -> f64 {
        let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        (squares / values.len() as f64).sqrt()
    }

    #[test]
    fn resnets_start_as_published() {
        let (plan, weights) = initial(Architecture::Resnet50, 1, true);
        // 36,864 draws: their deviation is within 2 % with certainty for all purposes.
        let filters = deviation(values(&plan, &weights, "layer1.0.conv2.weight"));
        assert!((filters / (2.0_f64 / (9.0 * 64.0)).sqrt() - 1.0).abs() < 0.02, "{filters}");
        let classifier = deviation(values(&plan, &weights, "fc.weight"));
        assert!((classifier / 0.01 - 1.0).abs() < 0.02, "{classifier}");
        assert!(values(&plan, &weights, "fc.bias").iter().all(|&value| value == 0.0));
        for (name, value) in [("layer1.0.bn3", 0.0), ("layer1.0.bn2", 1.0), ("bn1", 1.0)] {
            let gamma = values(&plan, &weights, &format!("{name}.weight"));
            assert!(gamma.iter().all(|&gamma| gamma == value), "{name}");
        }
        let (plan, weights) = initial(Architecture::Resnet50, 1, false);
        assert_eq!(values(&plan, &weights, "layer1.0.bn3.weight")[0], 1.0);
    }

    #[test]
    fn alexnets_start_as_published() {
        let (plan, weights) = initial(Architecture::Alexnet, 1, true);
        for (name, expected) in [("conv3", 0.01), ("fc6", 0.005), ("fc7", 0.005), ("fc8", 0.01)] {
            let found = deviation(values(&plan, &weights, &format!("{name}.weight")));
            assert!((found / expected - 1.0).abs() < 0.02, "{name}: {found}");
        }
        for (name, expected) in [("conv1", 0.0), ("conv2", 0.1), ("fc6", 0.1), ("fc8", 0.0)] {
            assert_eq!(values(&plan, &weights, &format!("{name}.bias"))[0], expected, "{name}");
        }
    }

    #[test]
    fn seeds_decide() {
        let of = |seed| initial(Architecture::SmallResnet { blocks_per_stage: 1 }, seed, true).1;
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn tensors_come_back_bit_by_bit_in_pytorchs_order() {
        let (plan, weights) = initial(Architecture::AlexnetBn { after_pool5: true }, 3, true);
        let tensors = weights.to_tensors().unwrap();
        assert_eq!(tensors["conv2.weight"].dims(), [256, 48, 5, 5]);
        let back = Weights::from_tensors(&plan, &tensors).unwrap();
        assert_eq!(back, weights);
        let mut fewer = tensors;
        fewer.remove("fc7.bias");
        let error = Weights::from_tensors(&plan, &fewer).unwrap_err().to_string();
        assert_eq!(error, "tensor `fc7.bias` is missing");
    }
}

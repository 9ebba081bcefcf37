//! Layer times of one network, by batch: what replaces the roofline.

use serde::{Deserialize, Serialize};

use super::Estimate;
use crate::compute::{ComputeSource, ComputeTimes, LayerTime};
use crate::recording::NumberFormat;
use crate::units::SimDuration;
use crate::workload::{Network, ParameterTensor, Shape};

/// Layer times of one network on one accelerator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeProfile {
    /// The network, by the name people call it.
    pub network: String,
    /// Channels, rows and columns of one input image.
    pub input: [u64; 3],
    /// The format in which forward and backward compute.
    pub precision: NumberFormat,
    /// The format in which gradients travel, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<NumberFormat>,
    /// The update rule, such as `lars`.
    pub optimizer: String,
    /// What a step executes, in forward order.
    pub layers: Vec<LayerEntry>,
    /// Their times at each batch that was measured, batches increasing.
    pub batches: Vec<BatchTimes>,
    /// How many times as long backward takes while buckets travel, with several ranks; what
    /// communication takes from compute.
    #[serde(default)]
    pub overlap_slowdown: Option<Estimate>,
}

/// A layer: its name, and whose gradients it completes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEntry {
    /// The node of the network, such as `layer1.0.conv1`.
    pub name: String,
    /// What it computes, such as `convolution`.
    pub operation: String,
    /// Its parameter tensors, in forward order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorEntry>,
}

/// A parameter tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Parameters.
    pub elements: u64,
}

/// Times at one batch. A step is host, forward, backward and optimizer, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchTimes {
    /// Images of the rank's step.
    pub batch: u64,
    /// Steps behind each number.
    pub steps: u32,
    /// What the host does before forward begins and after the update, and no layer's.
    pub host_us: Estimate,
    /// Forward of all layers.
    pub forward_us: Estimate,
    /// Backward of all layers.
    pub backward_us: Estimate,
    /// The update.
    pub optimizer_us: Estimate,
    /// Forward of each layer.
    pub layer_forward_us: Vec<f64>,
    /// Backward of each layer; its gradients are complete at its end.
    pub layer_backward_us: Vec<f64>,
}

/// A batch's times as numbers that can be interpolated.
struct Times {
    host: f64,
    optimizer: f64,
    layers: Vec<(f64, f64)>,
}

impl From<&BatchTimes> for Times {
    fn from(times: &BatchTimes) -> Self {
        let layers = times.layer_forward_us.iter().zip(&times.layer_backward_us);
        Self {
            host: times.host_us.value,
            optimizer: times.optimizer_us.value,
            layers: layers.map(|(forward, backward)| (*forward, *backward)).collect(),
        }
    }
}

impl Times {
    /// Between this and `other`, at `share` of the way; beyond it if that is more than 1. Nothing
    /// takes less than no time.
    fn towards(&self, other: &Self, share: f64) -> Self {
        let mix = |one: f64, two: f64| (one + share * (two - one)).max(0.0);
        Self {
            host: mix(self.host, other.host),
            optimizer: mix(self.optimizer, other.optimizer),
            layers: self
                .layers
                .iter()
                .zip(&other.layers)
                .map(|(one, two)| (mix(one.0, two.0), mix(one.1, two.1)))
                .collect(),
        }
    }

    /// The layers' times, multiplied.
    fn scaled(mut self, factor: f64) -> Self {
        for (forward, backward) in &mut self.layers {
            *forward *= factor;
            *backward *= factor;
        }
        self
    }
}

impl ComputeProfile {
    /// The network that the layers are, as far as it is known.
    #[must_use]
    pub fn network(&self) -> Network {
        let [channels, height, width] = self.input;
        let tensor = |tensor: &TensorEntry| ParameterTensor {
            name: tensor.name.clone(),
            shape: vec![tensor.elements],
        };
        let layers = self.layers.iter().map(|layer| {
            (layer.name.clone(), layer.tensors.iter().map(tensor).collect::<Vec<_>>())
        });
        Network::measured(&self.network, Shape::new(channels, height, width), layers.collect())
    }

    /// All parameters.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.layers.iter().flat_map(|layer| &layer.tensors).map(|tensor| tensor.elements).sum()
    }

    /// The smallest and the largest batch that was measured.
    #[must_use]
    pub fn measured_batches(&self) -> Option<(u64, u64)> {
        Some((self.batches.first()?.batch, self.batches.last()?.batch))
    }

    /// The times of [`Self::network`]'s nodes at `batch`, the host's as the forward pass of `input`;
    /// none if no batch was measured.
    ///
    /// Between two measured batches each layer's time is interpolated linearly, and beyond them along
    /// the line through the two nearest. From one batch alone, the layers' times are proportional to
    /// the batch; host and update do not depend on it.
    #[must_use]
    pub fn compute_times(&self, batch: u64) -> Option<ComputeTimes> {
        let first = self.batches.first()?;
        let times = match self.batches.as_slice() {
            [only] => Times::from(only).scaled(batch as f64 / only.batch.max(1) as f64),
            all => {
                let after = all.partition_point(|times| times.batch < batch);
                let right = after.clamp(1, all.len() - 1);
                let (left, right) = (&all[right - 1], &all[right]);
                let span = right.batch as f64 - left.batch as f64;
                let share = (batch as f64 - left.batch as f64) / span.max(1.0);
                Times::from(left).towards(&right.into(), share)
            }
        };
        debug_assert_eq!(first.layer_forward_us.len(), self.layers.len());
        let time = |us: f64| SimDuration::from_seconds(us / 1e6);
        let host = LayerTime { forward: time(times.host), backward: SimDuration::ZERO };
        let layers = times.layers.iter().map(|(forward, backward)| LayerTime {
            forward: time(*forward),
            backward: time(*backward),
        });
        Some(ComputeTimes {
            layers: std::iter::once(host).chain(layers).collect(),
            optimizer: time(times.optimizer),
            source: ComputeSource::Profile,
        })
    }

    /// Whether `batch` is outside what was measured.
    #[must_use]
    pub fn extrapolates(&self, batch: u64) -> bool {
        self.measured_batches().is_none_or(|(low, high)| !(low..=high).contains(&batch))
    }
}

impl ComputeTimes {
    /// The same with every backward pass `factor` times as long: what communication at the same time
    /// takes from compute.
    #[must_use]
    pub fn with_backward_scaled(mut self, factor: f64) -> Self {
        for layer in &mut self.layers {
            layer.backward = layer.backward.scaled(factor);
        }
        self
    }
}

//! How long each layer takes on one accelerator, at one batch.
//!
//! [`ComputeTimes`] is the seam between what is known of a device and the simulated step: the
//! roofline below fills it from a datasheet, a measured profile
//! ([`ComputeProfile`](crate::profile::ComputeProfile)) from recordings.
//!
//! # The roofline
//!
//! A kernel takes the longer of its arithmetic and its memory traffic (Williams, Waterman,
//! Patterson, CACM 52(4), 2009):
//!
//! ```text
//! t = max( flops / (peak · e), bytes / memory bandwidth )
//! ```
//!
//! Arithmetic loses efficiency when there is too little of it: a matrix product is computed in
//! tiles of 128 × 128 outputs, one to a compute unit at a time (NVIDIA, "Matrix Multiplication
//! Background User's Guide", wave quantisation). With x = tiles / units it takes ceil(x) waves,
//! x + 1/2 on average over shapes, so e = x / (x + 1/2). Nothing here is fitted. Without an anchor
//! the roofline is a bound that real kernels do not reach; with one, every time is multiplied by
//! the factor that makes a step of one accelerator at the anchor's batch take what was measured.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::Accelerator;
use crate::units::text::deserialize_text;
use crate::units::{ImageRate, SimDuration, UnitError};
use crate::workload::{Network, NodeCost, Traffic};

/// Outputs of one tile of a matrix product; see the module's page.
const TILE_OUTPUTS: f64 = 128.0 * 128.0;

/// What the step computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    Fp32,
    /// Single-precision storage, TF32 matrix products.
    Tf32,
    /// Half-precision storage and products, single-precision master weights.
    Fp16Mixed,
    /// bfloat16 storage and products, single-precision master weights.
    Bf16Mixed,
}

impl Precision {
    /// Bytes of one activation, weight or gradient in the forward and backward passes.
    #[must_use]
    pub const fn element_bytes(self) -> u64 {
        match self {
            Self::Fp32 | Self::Tf32 => 4,
            Self::Fp16Mixed | Self::Bf16Mixed => 2,
        }
    }

    /// Bytes that each parameter occupies: weight, gradient and momentum; in mixed precision the
    /// half-precision weight and gradient, and master weight, gradient and momentum in single.
    #[must_use]
    pub const fn parameter_bytes(self) -> u64 {
        match self {
            Self::Fp32 | Self::Tf32 => 12,
            Self::Fp16Mixed | Self::Bf16Mixed => 16,
        }
    }

    /// Whether matrix products run in fp32, because `accelerator` does not do the narrow format
    /// faster or at all.
    #[must_use]
    pub fn falls_back_to_fp32(self, accelerator: &Accelerator) -> bool {
        let single = Self::Fp32.matrix_rate(accelerator);
        self != Self::Fp32 && single.is_some() && self.matrix_rate(accelerator) == single
    }

    /// The rate of matrix products. Where a chip does the narrow format slower than fp32 (as P40
    /// does fp16), narrow numbers save traffic only and the arithmetic is done in fp32.
    fn matrix_rate(self, accelerator: &Accelerator) -> Option<f64> {
        let narrow = match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Fp16Mixed => "fp16",
            Self::Bf16Mixed => "bf16",
        };
        let rates = [narrow, "fp32"].map(|name| accelerator.matrix_rates.get(name));
        rates.into_iter().flatten().map(|rate| rate.get()).reduce(f64::max)
    }
}

/// How the weights are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    #[default]
    Momentum,
    /// Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888): two norms of each tensor
    /// are taken before the update.
    Lars,
}

impl Optimizer {
    /// Memory traffic of the update for each parameter: reads weight, gradient and momentum and
    /// writes weight and momentum, all single precision; LARS first reads weight and gradient for
    /// their norms; mixed precision also reads the half gradient, writes it as single, and writes
    /// the half weight.
    const fn traffic_bytes(self, precision: Precision) -> u64 {
        let update = 5 * 4;
        let norms = match self {
            Self::Momentum => 0,
            Self::Lars => 2 * 4,
        };
        let casts = match precision {
            Precision::Fp32 | Precision::Tf32 => 0,
            Precision::Fp16Mixed | Precision::Bf16Mixed => 2 + 4 + 2,
        };
        update + norms + casts
    }
}

/// A measured rate of one accelerator at one batch, such as `"218 images/s at 64"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anchor {
    /// The measured rate.
    pub rate: ImageRate,
    /// The batch it was measured at.
    pub batch: u64,
}

/// What an anchor may say; wider than any accelerator.
const RATES: std::ops::RangeInclusive<f64> = 1e-3..=1e9;
const BATCHES: std::ops::RangeInclusive<u64> = 1..=1_000_000;

const ANCHOR_NAME: &str = "anchor";
const ANCHOR_EXAMPLE: &str = "218 images/s at 64";

impl FromStr for Anchor {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = |problem: &str| UnitError::new(text, ANCHOR_NAME, problem, ANCHOR_EXAMPLE);
        let (rate, batch) =
            text.split_once(" at ").ok_or_else(|| error("the batch after ` at ` is missing"))?;
        let rate: ImageRate = rate.parse()?;
        let batch = batch.trim().parse().map_err(|_| error("the batch is not a whole number"))?;
        if !RATES.contains(&rate.get()) || !BATCHES.contains(&batch) {
            return Err(error("expected 0.001 to 1e9 images/s at 1 to 1,000,000"));
        }
        Ok(Self { rate, batch })
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.rate, self.batch)
    }
}

impl Serialize for Anchor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Anchor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer, ANCHOR_NAME, ANCHOR_EXAMPLE)
    }
}

impl JsonSchema for Anchor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Anchor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a measured rate of one accelerator and the batch it was measured at",
            "examples": [ANCHOR_EXAMPLE],
        })
    }
}

/// Where compute times come from, for the forecast to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeSource {
    /// A roofline over datasheet rates: a bound.
    Roofline,
    /// The roofline scaled to a measured rate.
    AnchoredRoofline,
    /// Layer times that were measured.
    Profile,
}

/// What one layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerTime {
    /// Forward.
    pub forward: SimDuration,
    /// Backward; all of the layer's gradients are ready at its end.
    pub backward: SimDuration,
}

/// What the compute of one step takes on one undisturbed accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeTimes {
    /// One entry a node of the network, in forward order.
    pub layers: Vec<LayerTime>,
    /// The optimizer's update.
    pub optimizer: SimDuration,
    /// Where the times are from.
    pub source: ComputeSource,
}

impl ComputeTimes {
    /// The whole forward pass.
    #[must_use]
    pub fn forward(&self) -> SimDuration {
        self.layers.iter().map(|layer| layer.forward).sum()
    }

    /// The whole backward pass.
    #[must_use]
    pub fn backward(&self) -> SimDuration {
        self.layers.iter().map(|layer| layer.backward).sum()
    }

    /// Forward, backward and update.
    #[must_use]
    pub fn step(&self) -> SimDuration {
        self.forward() + self.backward() + self.optimizer
    }
}

/// A device model: compute times of a network from a datasheet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    compute_units: f64,
    matrix_flops_per_s: f64,
    vector_flops_per_s: f64,
    memory_bytes_per_s: f64,
    precision: Precision,
    optimizer: Optimizer,
}

impl Roofline {
    /// The model of `accelerator`; none if its maker published no rate to compute with.
    #[must_use]
    pub fn new(
        accelerator: &Accelerator,
        precision: Precision,
        optimizer: Optimizer,
    ) -> Option<Self> {
        let matrix_flops_per_s = precision.matrix_rate(accelerator).filter(|rate| *rate > 0.0)?;
        Some(Self {
            compute_units: f64::from(accelerator.compute_units),
            matrix_flops_per_s,
            vector_flops_per_s: accelerator
                .vector_rate
                .map(|rate| rate.get())
                .filter(|rate| *rate > 0.0)
                .unwrap_or(matrix_flops_per_s),
            memory_bytes_per_s: accelerator.memory_bandwidth.bytes_per_s() as f64,
            precision,
            optimizer,
        })
    }

    /// Compute times of `network` at `batch` images, scaled to `anchor` if there is one.
    #[must_use]
    pub fn compute_times(
        &self,
        network: &Network,
        batch: u64,
        anchor: Option<Anchor>,
    ) -> ComputeTimes {
        let scale = anchor.map_or(1.0, |Anchor { rate, batch }| {
            let measured_s = batch as f64 / rate.get();
            measured_s / self.step_s(network, batch)
        });
        let layers = network
            .nodes()
            .iter()
            .map(|node| {
                let (forward_s, backward_s) = self.node_s(&node.cost(), batch);
                LayerTime {
                    forward: SimDuration::from_seconds(scale * forward_s),
                    backward: SimDuration::from_seconds(scale * backward_s),
                }
            })
            .collect();
        let optimizer = SimDuration::from_seconds(scale * self.optimizer_s(network));
        let source = match anchor {
            Some(_) => ComputeSource::AnchoredRoofline,
            None => ComputeSource::Roofline,
        };
        ComputeTimes { layers, optimizer, source }
    }

    fn step_s(&self, network: &Network, batch: u64) -> f64 {
        let layers: f64 = network
            .nodes()
            .iter()
            .map(|node| self.node_s(&node.cost(), batch))
            .map(|(forward_s, backward_s)| forward_s + backward_s)
            .sum();
        layers + self.optimizer_s(network)
    }

    fn optimizer_s(&self, network: &Network) -> f64 {
        let bytes = network.parameter_count() * self.optimizer.traffic_bytes(self.precision);
        bytes as f64 / self.memory_bytes_per_s
    }

    /// Seconds forward and backward of one node.
    fn node_s(&self, cost: &NodeCost, batch: u64) -> (f64, f64) {
        let rate = if cost.matrix {
            let tiles = cost.parallel_elements as f64 * batch as f64 / TILE_OUTPUTS;
            let waves = tiles / self.compute_units;
            self.matrix_flops_per_s * waves / (waves + 0.5)
        } else {
            self.vector_flops_per_s
        };
        let seconds = |flops: u64, traffic: Traffic| {
            let elements = traffic.per_image as f64 * batch as f64 + traffic.per_step as f64;
            let bytes = elements * self.precision.element_bytes() as f64;
            (flops as f64 * batch as f64 / rate).max(bytes / self.memory_bytes_per_s)
        };
        if cost.forward_flops == 0 {
            return (0.0, 0.0);
        }
        (
            seconds(cost.forward_flops, cost.forward_traffic),
            seconds(cost.backward_flops, cost.backward_traffic),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::workload::NetworkName;

    fn roofline(name: &str, precision: Precision) -> Roofline {
        let accelerator = Catalogue::shipped().accelerator(name).unwrap();
        Roofline::new(accelerator, precision, Optimizer::Momentum).unwrap()
    }

    #[test]
    fn an_anchor_is_met_at_its_batch() {
        let network = NetworkName::Resnet50.network();
        let anchor: Anchor = "218 images/s at 64".parse().unwrap();
        let times = roofline("p40", Precision::Fp16Mixed).compute_times(&network, 64, Some(anchor));
        let rate = 64.0 / times.step().as_seconds();
        // Each layer's time is rounded to the picosecond.
        assert!((rate / 218.0 - 1.0).abs() < 1e-9, "{rate}");
        assert_eq!(times.source, ComputeSource::AnchoredRoofline);
    }

    #[test]
    fn the_roofline_of_one_layer_by_hand() {
        // fc of ResNet-50 at 64 images on a P40 (12 TFLOP/s, 346 GB/s, 30 units), fp32: the forward
        // product of 2·2048·1000·64 FLOP has 64·1000/128² = 3.9 tiles, 0.13 waves; its traffic is
        // 4 bytes of (2048 + 1000)·64 activations and 2,049,000 weights.
        let network = NetworkName::Resnet50.network();
        let model = roofline("p40", Precision::Fp32);
        let (peak, memory) = (12e12_f64, 346e9);
        let waves = 64.0 * 1000.0 / 16384.0 / 30.0;
        let arithmetic_s = 2.0 * 2048.0 * 1000.0 * 64.0 / (peak * waves / (waves + 0.5));
        let memory_s = 4.0 * (3048.0 * 64.0 + 2_049_000.0) / memory;
        let (index, _) = network.node_named("fc").unwrap();
        let times = model.compute_times(&network, 64, None);
        let expected = SimDuration::from_seconds(arithmetic_s.max(memory_s));
        assert_eq!(times.layers[index.get()].forward, expected);
    }

    #[test]
    fn p40_gains_from_half_precision_by_traffic_only() {
        let network = NetworkName::Resnet50.network();
        let step = |precision| roofline("p40", precision).compute_times(&network, 64, None).step();
        let gain = step(Precision::Fp32).as_seconds() / step(Precision::Fp16Mixed).as_seconds();
        assert!(gain > 1.0 && gain < 2.0, "{gain}");
    }

    #[test]
    fn anchors_say_what_is_wrong() {
        for (text, problem) in [
            ("218 images/s", "the batch after ` at ` is missing"),
            ("218 at 64", "the unit is missing"),
            ("218 images/s at x", "not a whole number"),
            ("0 images/s at 4", "expected 0.001 to 1e9 images/s at 1 to"),
        ] {
            let message = text.parse::<Anchor>().unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_larger_batch_takes_longer_and_is_no_less_efficient(batch in 1_u64..512) {
            let network = NetworkName::Resnet50.network();
            let model = roofline("v100-sxm2-16gb", Precision::Fp16Mixed);
            let step_s = |batch| model.compute_times(&network, batch, None).step().as_seconds();
            let (less, more) = (step_s(batch), step_s(batch + 1));
            prop_assert!(more > less);
            // A picosecond of rounding a layer is allowed for.
            prop_assert!((batch + 1) as f64 / more >= batch as f64 / less * (1.0 - 1e-6));
        }
    }
}

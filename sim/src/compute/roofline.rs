//! A device model: compute times from a datasheet.
//!
//! A kernel takes the longer of its arithmetic and its memory traffic (Williams, Waterman,
//! Patterson, CACM 52(4), 2009), and what it takes to start and to drain besides:
//!
//! ```text
//! t = f · max( flops / (peak · e), bytes / memory bandwidth ) + launch
//! ```
//!
//! Arithmetic loses efficiency when there is too little of it: a matrix product is computed in
//! tiles of 128 × 128 outputs, one to a compute unit at a time (NVIDIA, "Matrix Multiplication
//! Background User's Guide", wave quantisation). With x = tiles / units it takes ceil(x) waves,
//! x + 1/2 on average over shapes, so e = x / (x + 1/2). Nothing here is fitted. Without an anchor
//! f = 1, a bound that real kernels do not reach; with one, f is the factor that makes a step at the
//! anchor's batch take what was measured. So what scales with the batch is scaled to the anchor,
//! bound by arithmetic or by memory layer by layer, and launches are not.

use super::{Anchor, ComputeSource, ComputeTimes, Kernels, LayerTime, Optimizer, Precision};
use crate::catalogue::Accelerator;
use crate::units::SimDuration;
use crate::workload::{Network, Node, NodeCost, Traffic};

/// Outputs of one tile of a matrix product; see the module's page.
const TILE_OUTPUTS: f64 = 128.0 * 128.0;

/// A device model: compute times of a network from a datasheet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    compute_units: f64,
    matrix_flops_per_s: f64,
    vector_flops_per_s: f64,
    memory_bytes_per_s: f64,
    precision: Precision,
    optimizer: Optimizer,
    kernels: Kernels,
    launch: SimDuration,
}

impl Roofline {
    /// The model of `accelerator`, each operation a kernel of its own whose start takes nothing; none
    /// if its maker published no rate to compute with.
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
            kernels: Kernels::Separate,
            launch: SimDuration::ZERO,
        })
    }

    /// The same with other kernels, each of which takes `launch` besides its work.
    #[must_use]
    pub const fn with_kernels(self, kernels: Kernels, launch: SimDuration) -> Self {
        Self { kernels, launch, ..self }
    }

    /// Compute times of `network` at `batch` images, scaled to `anchor`, a rate of one accelerator, if
    /// there is one. (Launches alone may take longer than the anchor's step; then that is all.)
    #[must_use]
    pub fn compute_times(
        &self,
        network: &Network,
        batch: u64,
        anchor: Option<Anchor>,
    ) -> ComputeTimes {
        let factor = anchor.map(|anchor| self.factor(network, anchor).unwrap_or(0.0));
        let source = match factor {
            Some(_) => ComputeSource::AnchoredRoofline,
            None => ComputeSource::Roofline,
        };
        ComputeTimes { source, ..self.times(network, batch, factor.unwrap_or(1.0)) }
    }

    /// The factor of the roofline with which one accelerator reaches `anchor`; none if launches alone
    /// take as long as its step.
    #[must_use]
    pub fn factor(&self, network: &Network, anchor: Anchor) -> Option<f64> {
        let measured_s = anchor.batch as f64 / anchor.rate.get();
        let launches_s = self.launches(network) as f64 * self.launch.as_seconds();
        let factor = (measured_s - launches_s) / self.work_s(network, anchor.batch);
        (factor > 0.0).then_some(factor)
    }

    /// Compute times of `network` at `batch` images with `factor` times the roofline.
    #[must_use]
    pub fn times(&self, network: &Network, batch: u64, factor: f64) -> ComputeTimes {
        let layers = network.nodes().iter().map(|node| {
            let cost = self.cost(network, node);
            let (forward_s, backward_s) = self.node_s(&cost, batch);
            LayerTime {
                forward: SimDuration::from_seconds(factor * forward_s)
                    + self.launch * u64::from(cost.forward_kernels),
                backward: SimDuration::from_seconds(factor * backward_s)
                    + self.launch * u64::from(cost.backward_kernels),
            }
        });
        let updates = self.kernels.of_update(network.tensors().count() as u64);
        ComputeTimes {
            layers: layers.collect(),
            optimizer: SimDuration::from_seconds(factor * self.optimizer_s(network))
                + self.launch * updates,
            source: ComputeSource::Roofline,
        }
    }

    /// Kernels of a step.
    #[must_use]
    pub fn launches(&self, network: &Network) -> u64 {
        let of_layers: u64 = network
            .nodes()
            .iter()
            .map(|node| self.cost(network, node))
            .map(|cost| u64::from(cost.forward_kernels) + u64::from(cost.backward_kernels))
            .sum();
        of_layers + self.kernels.of_update(network.tensors().count() as u64)
    }

    /// What each kernel takes besides its work.
    #[must_use]
    pub const fn launch(&self) -> SimDuration {
        self.launch
    }

    fn cost(&self, network: &Network, node: &Node) -> NodeCost {
        match self.kernels {
            Kernels::Separate => node.cost(),
            Kernels::Fused => node.fused_cost(network),
        }
    }

    fn work_s(&self, network: &Network, batch: u64) -> f64 {
        let layers: f64 = network
            .nodes()
            .iter()
            .map(|node| self.node_s(&self.cost(network, node), batch))
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
    fn launches_do_not_shrink_with_the_batch_and_an_anchor_is_met_with_them() {
        let network = NetworkName::Resnet50.network();
        let bare = roofline("a100-sxm4-80gb", Precision::Fp16Mixed);
        let launch = SimDuration::from_ps(5_000_000);
        for kernels in [Kernels::Separate, Kernels::Fused] {
            let free = bare.with_kernels(kernels, SimDuration::ZERO);
            let model = bare.with_kernels(kernels, launch);
            for batch in [1, 16, 256] {
                let more = model.compute_times(&network, batch, None).step()
                    - free.compute_times(&network, batch, None).step();
                assert_eq!(more, launch * model.launches(&network));
            }
            let anchor: Anchor = "3300 images/s at 256".parse().unwrap();
            let times = model.compute_times(&network, 256, Some(anchor));
            assert!((256.0 / times.step().as_seconds() / 3300.0 - 1.0).abs() < 1e-9);
            let small = |model: &Roofline| {
                model.compute_times(&network, 16, Some(anchor)).step().as_seconds()
            };
            assert!(small(&model) > 1.1 * small(&free));
        }
        // 53 convolutions and a linear layer (1 forward, 2 backward; 1 for the first), 53 batch norms,
        // 49 ReLUs and 16 joins (1 and 1), 2 pools and a loss; 161 tensors.
        let separate = 54 * 3 - 1 + 2 * (53 + 49 + 16 + 2 + 1);
        assert_eq!(bare.launches(&network), separate + 161);
        let fused = bare.with_kernels(Kernels::Fused, launch);
        assert_eq!(fused.launches(&network), separate - 2 * (49 + 16) + 3);
        // AlexNet has no batch norm that could do its ReLUs: only updates are fused.
        let alexnet = NetworkName::Alexnet.network();
        let updates = alexnet.tensors().count() as u64;
        assert_eq!(fused.launches(&alexnet), bare.launches(&alexnet) - updates + 3);
        let fast: Anchor = "1000000 images/s at 1".parse().unwrap();
        assert_eq!(fused.factor(&network, fast), None);
    }

    #[test]
    fn p40_gains_from_half_precision_by_traffic_only() {
        let network = NetworkName::Resnet50.network();
        let step = |precision| roofline("p40", precision).compute_times(&network, 64, None).step();
        let gain = step(Precision::Fp32).as_seconds() / step(Precision::Fp16Mixed).as_seconds();
        assert!(gain > 1.0 && gain < 2.0, "{gain}");
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

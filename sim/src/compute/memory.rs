//! Device memory that training takes on one accelerator.
//!
//! ```text
//! needed = parameters · bytes a parameter + workspace + batch · elements · element bytes
//! ```
//!
//! [`MemoryNeed::least`] is a lower bound: what does not fit it cannot be trained, unless by
//! computing activations again, compressing them or keeping them elsewhere. [`MemoryNeed::usual`] is
//! what common frameworks take; a batch that does not fit it may still run where memory is used better.
//! Neither counts what the driver and the communication library take for themselves (some 100 MiB
//! to 1 GiB, which no data sheet says) nor what an allocator wastes.

use super::{Optimizer, Precision};
use crate::units::Bytes;
use crate::workload::Network;

/// What a convolution may take besides inputs and outputs: what MXNet's operator is given unless
/// told otherwise, 1,024 MiB (`src/operator/nn/convolution.cc`, `workspace`, "maximum temporary
/// workspace allowed (MB) in convolution"). TensorFlow's limit is 4 GiB (its `conv_ops.cc`,
/// `TF_CUDNN_WORKSPACE_LIMIT_IN_MB`), which its convolutions do not use up.
const WORKSPACE_BYTES: u64 = 1 << 30;
/// A master weight, and the single-precision gradient it is updated with.
const SINGLE_BYTES: u64 = 4;

/// Device memory that training takes: so much whatever the batch, and so much for each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights, gradients, state of the optimizer, workspace.
    pub fixed: Bytes,
    /// Activations and their gradients.
    pub per_image: Bytes,
}

impl MemoryNeed {
    /// What cannot be avoided: single-precision weights, a gradient and the optimizer's state, with
    /// half-precision copies in mixed precision (whose gradient is then the only one), and
    /// [`Network::kept_elements`] of every image.
    #[must_use]
    pub fn least(network: &Network, precision: Precision, optimizer: Optimizer) -> Self {
        let element = precision.element_bytes();
        let half_weight = if is_mixed(precision) { element } else { 0 };
        let parameter = SINGLE_BYTES + half_weight + element + optimizer.state_bytes();
        Self {
            fixed: Bytes::new(network.parameter_count() * parameter),
            per_image: Bytes::new(network.kept_elements() * element),
        }
    }

    /// What common frameworks take: the optimizer has single-precision gradients of its own in mixed
    /// precision, activations are as [`Network::peak_elements`] says, convolutions have a workspace
    /// of 1 GiB, and the next batch waits on the device.
    #[must_use]
    pub fn usual(network: &Network, precision: Precision, optimizer: Optimizer) -> Self {
        let element = precision.element_bytes();
        let copied = if is_mixed(precision) { SINGLE_BYTES } else { 0 };
        let least = Self::least(network, precision, optimizer).fixed.get();
        let fixed = least + network.parameter_count() * copied + WORKSPACE_BYTES;
        let elements = network.peak_elements() + network.input_shape().elements();
        Self { fixed: Bytes::new(fixed), per_image: Bytes::new(elements * element) }
    }

    /// What `batch` images need.
    #[must_use]
    pub const fn at(self, batch: u64) -> Bytes {
        Bytes::new(self.per_image.get().saturating_mul(batch).saturating_add(self.fixed.get()))
    }

    /// The largest batch that fits `memory`: 0 if not even the weights do, and `u64::MAX` if nothing
    /// is known of activations, as of layers that were measured.
    #[must_use]
    pub const fn largest_batch(self, memory: Bytes) -> u64 {
        match memory.get().checked_sub(self.fixed.get()) {
            None => 0,
            Some(left) => match left.checked_div(self.per_image.get()) {
                Some(batch) => batch,
                None => u64::MAX,
            },
        }
    }
}

impl Optimizer {
    /// Bytes that each parameter's state occupies: momentum in single precision. LARS keeps no more;
    /// its norms are two numbers a tensor. RMSprop keeps its second moment too.
    const fn state_bytes(self) -> u64 {
        match self {
            Self::Momentum | Self::Lars => 4,
            Self::RmspropWarmUp => 2 * 4,
        }
    }
}

const fn is_mixed(precision: Precision) -> bool {
    match precision {
        Precision::Fp32 | Precision::Tf32 => false,
        Precision::Fp16Mixed | Precision::Bf16Mixed => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::workload::NetworkName;
    use Precision::{Bf16Mixed, Fp16Mixed, Fp32, Tf32};

    const NETWORKS: [NetworkName; 4] = [
        NetworkName::Resnet50,
        NetworkName::Resnet18,
        NetworkName::Alexnet,
        NetworkName::AlexnetBn,
    ];

    fn memory(accelerator: &str) -> Bytes {
        Catalogue::shipped().accelerator(accelerator).unwrap().memory
    }

    fn both(network: NetworkName, precision: Precision) -> [MemoryNeed; 2] {
        let network = network.network();
        let optimizer = Optimizer::Momentum;
        [
            MemoryNeed::least(&network, precision, optimizer),
            MemoryNeed::usual(&network, precision, optimizer),
        ]
    }

    /// What has run, from `scenarios/published`: the largest batch of each accelerator in each
    /// precision. MLP is MLPerf, DLE NVIDIA's DeepLearningExamples (the batches of its scripts).
    #[test]
    fn what_has_run_fits() {
        use NetworkName::{Alexnet, AlexnetBn, Resnet50};
        let runs = [
            ("v100-sxm2-16gb", Resnet50, Fp16Mixed, 208), // MLP-058
            ("v100-sxm2-16gb", Resnet50, Fp16Mixed, 256), // DLE, DGX-1
            ("v100-sxm2-16gb", Resnet50, Fp32, 128),      // DLE, DGX-1
            ("v100-sxm3-32gb-450w", Resnet50, Fp16Mixed, 208), // MLP-070
            ("v100-sxm3-32gb", Resnet50, Fp16Mixed, 256), // DLE, DGX-2
            ("a100-sxm4-40gb", Resnet50, Fp16Mixed, 408), // MLP-130
            ("a100-sxm4-40gb", Resnet50, Tf32, 256),      // DLE, DGX A100
            ("a100-sxm4-80gb", Resnet50, Fp16Mixed, 512), // DLE, DGX A100
            ("a100-sxm4-80gb", Resnet50, Tf32, 512),      // DLE, DGX A100
            ("a100-pcie-40gb", Resnet50, Fp16Mixed, 408), // MLP-160
            ("h100-sxm5-80gb", Resnet50, Fp16Mixed, 400), // MLP-697
            ("gaudi", Resnet50, Bf16Mixed, 256),          // MLP-325
            ("tpu-v3-chip", Resnet50, Bf16Mixed, 256),    // MLP-049
            ("p100-sxm2-16gb", Resnet50, Fp32, 64),       // TensorFlow, benchmarks.md
            ("p100-sxm2-16gb", Alexnet, Fp32, 512),       // TensorFlow, benchmarks.md
            ("v100-sxm2-16gb", Alexnet, Fp32, 1024),      // MXNet, perf.md
            ("p40", AlexnetBn, Fp16Mixed, 64),            // Jia et al.
            ("knl-7250", Resnet50, Fp32, 16),             // You et al.
        ];
        for (accelerator, network, precision, batch) in runs {
            for need in both(network, precision) {
                let memory = memory(accelerator);
                assert!(need.at(batch) <= memory, "{accelerator}, {batch}: {}", need.at(batch));
            }
        }
    }

    /// Every submission of the table ran; all in mixed precision, and none needs a warning.
    #[test]
    fn every_mlperf_submission_fits() {
        let table = include_str!("../../../scenarios/published/scaling.csv");
        let needs = [Optimizer::Momentum, Optimizer::Lars].map(|optimizer| {
            MemoryNeed::usual(&NetworkName::Resnet50.network(), Fp16Mixed, optimizer)
        });
        let mut rows = 0;
        for line in table.lines().skip(1).filter(|line| !line.contains('"')) {
            let cells: Vec<&str> = line.split(',').collect();
            let (accelerator, batch) = (cells[4], cells[14].parse::<f64>().unwrap());
            for need in needs {
                assert!(need.at(batch as u64) <= memory(accelerator), "{line}");
            }
            rows += 1;
        }
        assert!(rows > 20, "{rows} rows were read");
    }

    #[test]
    fn what_cannot_run_does_not_fit() {
        for (accelerator, precision, batch) in [
            ("v100-sxm2-16gb", Fp32, 1024),
            ("v100-sxm2-16gb", Fp32, 256),
            ("v100-sxm2-16gb", Fp16Mixed, 512),
            ("v100-sxm3-32gb", Fp32, 512),
            ("a100-sxm4-40gb", Tf32, 640),
            ("a100-sxm4-40gb", Fp16Mixed, 1280),
        ] {
            let [least, usual] = both(NetworkName::Resnet50, precision);
            assert!(least.at(batch) > memory(accelerator), "{accelerator}, {batch}");
            assert!(usual.at(batch) > least.at(batch));
        }
    }

    /// ResNet-50 at 224: 25,557,032 parameters; 20.2 M elements kept, 21.2 M at the peak.
    #[test]
    fn resnet50_in_bytes() {
        let [least, usual] = both(NetworkName::Resnet50, Fp32);
        assert_eq!(least.fixed, Bytes::new(25_557_032 * 12));
        assert_eq!(usual.fixed, Bytes::new(25_557_032 * 12 + (1 << 30)));
        let network = NetworkName::Resnet50.network();
        assert_eq!(least.per_image, Bytes::new(4 * network.kept_elements()));
        assert_eq!(usual.per_image, Bytes::new(4 * (network.peak_elements() + 3 * 224 * 224)));
        let [least, usual] = both(NetworkName::Resnet50, Fp16Mixed);
        assert_eq!(least.fixed, Bytes::new(25_557_032 * (4 + 4 + 2 + 2)));
        assert_eq!(usual.fixed, Bytes::new(25_557_032 * 16 + (1 << 30)));
        assert_eq!(least.per_image, Bytes::new(2 * network.kept_elements()));
    }

    #[test]
    fn the_largest_batch_has_ends() {
        let need = MemoryNeed { fixed: Bytes::new(100), per_image: Bytes::new(10) };
        for (memory, batch) in [(0, 0), (99, 0), (100, 0), (109, 0), (110, 1), (119, 1), (120, 2)] {
            assert_eq!(need.largest_batch(Bytes::new(memory)), batch);
        }
        let measured = MemoryNeed { per_image: Bytes::ZERO, ..need };
        assert_eq!(measured.largest_batch(Bytes::new(99)), 0);
        assert_eq!(measured.largest_batch(Bytes::new(100)), u64::MAX);
        assert_eq!(need.at(u64::MAX), Bytes::new(u64::MAX));
    }

    proptest! {
        #[test]
        fn each_image_adds_the_same_and_the_largest_batch_is_the_largest(
            which in 0_usize..4, precision in 0_usize..4, batch in 0_u64..100_000, gib in 1_u64..200,
        ) {
            let precision = [Fp32, Tf32, Fp16Mixed, Bf16Mixed][precision];
            let [least, usual] = both(NETWORKS[which], precision);
            prop_assert!(least.fixed < usual.fixed && least.per_image < usual.per_image);
            for need in [least, usual] {
                let more = need.at(batch + 1).get() - need.at(batch).get();
                prop_assert_eq!(more, need.per_image.get());
                let memory = Bytes::new(gib << 30);
                let largest = need.largest_batch(memory);
                prop_assert!(largest == 0 || need.at(largest) <= memory);
                prop_assert!(need.at(largest + 1) > memory);
            }
        }
    }
}

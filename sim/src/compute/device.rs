//! One accelerator among others: a roofline, how far kernels stay behind it, and what ranks that
//! normalise together take to agree.

use super::{ComputeSource, ComputeTimes, Roofline};
use crate::network::Link;
use crate::units::{Bytes, SimDuration};
use crate::workload::Network;

/// Ranks that share the statistics of their batch norms.
///
/// For each batch norm they exchange two sums a channel in single precision, forward (of values and
/// their squares) and backward (of gradients), by recursive doubling: ⌈log₂ g⌉ rounds among g ranks,
/// each of α + S/B over the link inside nodes or, where a group is larger than a node, between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormGroup {
    /// Rounds inside nodes, and their link.
    inside: (u32, Link),
    /// Rounds between nodes, and their link.
    between: (u32, Link),
}

/// How many of `all` rounds stay in nodes of `per_node`, into which groups do not fit.
fn rounds_inside(per_node: u32, all: u32) -> u32 {
    per_node.trailing_zeros().min(all)
}

/// Two sums a channel, four bytes each.
const CHANNEL_BYTES: u64 = 8;

impl BatchNormGroup {
    /// Groups of `ranks` neighbours on nodes of `per_node`; none for single ranks.
    #[must_use]
    pub fn new(ranks: u32, per_node: u32, inside: Link, between: Link) -> Option<Self> {
        let all = ranks.clamp(1, 1 << 30).next_power_of_two().trailing_zeros();
        // A partner at distance 2^k is in the same node if nodes begin at multiples of 2^(k+1).
        let inner =
            if per_node.is_multiple_of(1 << all) { all } else { rounds_inside(per_node, all) };
        (all > 0).then_some(Self { inside: (inner, inside), between: (all - inner, between) })
    }

    /// One exchange for a batch norm of so many channels.
    #[must_use]
    pub fn exchange(&self, channels: u64) -> SimDuration {
        let bytes = Bytes::new(channels * CHANNEL_BYTES);
        let of = |(rounds, link): (u32, Link)| link.message_time(bytes) * u64::from(rounds);
        of(self.inside) + of(self.between)
    }
}

/// A device model of one rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Device {
    /// What work takes at best, and kernels besides.
    pub roofline: Roofline,
    /// How many times as long as the roofline work takes.
    pub factor: f64,
    /// Whether the factor is from a measurement or the scenario.
    pub is_scaled: bool,
    /// With whom it normalises.
    pub batch_norm: Option<BatchNormGroup>,
}

impl Device {
    /// Compute times of `network` at `batch` images.
    #[must_use]
    pub fn times(&self, network: &Network, batch: u64) -> ComputeTimes {
        let mut times = self.roofline.times(network, batch, self.factor);
        if self.is_scaled {
            times.source = ComputeSource::AnchoredRoofline;
        }
        if let Some(group) = &self.batch_norm {
            times.add_to_batch_norms(network, |channels| group.exchange(channels));
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use crate::compute::{Optimizer, Precision};
    use crate::units::Bandwidth;
    use crate::workload::NetworkName;

    fn link(latency_us: u64, bandwidth_gb: u64) -> Link {
        Link {
            latency: SimDuration::from_ps(latency_us * 1_000_000),
            bandwidth: Bandwidth::from_bytes_per_s(bandwidth_gb * 1_000_000_000),
        }
    }

    #[test]
    fn a_group_takes_a_round_for_each_doubling() {
        let (near, far) = (link(3, 100), link(14, 10));
        assert_eq!(BatchNormGroup::new(1, 8, near, far), None);
        for (ranks, per_node, inside, between) in [
            (2, 8, 1, 0),
            (8, 8, 3, 0),
            (16, 8, 3, 1),
            (3, 8, 2, 0),
            (4, 1, 0, 2),
            (64, 4, 2, 4),
            (8, 6, 1, 2),
        ] {
            let group = BatchNormGroup::new(ranks, per_node, near, far).unwrap();
            // 64 channels are 512 bytes: 3.00512 us inside, 14.0512 us between.
            let expected = 3_005_120 * inside + 14_051_200 * between;
            assert_eq!(group.exchange(64), SimDuration::from_ps(expected), "{ranks}");
        }
    }

    #[test]
    fn every_batch_norm_is_agreed_on_forward_and_backward() {
        let network = NetworkName::Resnet50.network();
        let accelerator = Catalogue::shipped().accelerator("a100-sxm4-80gb").unwrap();
        let roofline = Roofline::new(accelerator, Precision::Fp16Mixed, Optimizer::Lars).unwrap();
        let alone = Device { roofline, factor: 1.5, is_scaled: true, batch_norm: None };
        // Latency alone: 53 batch norms, twice, 3 rounds of 3 us.
        let group = BatchNormGroup::new(8, 8, link(3, 1_000_000), link(14, 10));
        let together = Device { batch_norm: group, ..alone };
        let more = together.times(&network, 32).step() - alone.times(&network, 32).step();
        assert!((more.as_us() / (53.0 * 2.0 * 9.0) - 1.0).abs() < 1e-3, "{}", more.as_us());
    }
}

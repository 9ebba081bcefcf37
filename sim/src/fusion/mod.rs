//! Tensor fusion: which gradients travel together.
//!
//! Gradients become ready one tensor after the other during the backward pass; sending each alone
//! pays a latency each time, sending all together hides nothing behind the backward pass. A
//! [`Fusion`] rule merges consecutive tensors into buckets. All rules but [`Fusion::Cycle`] fix the
//! buckets before the first step; the trainer executes the same plan that is simulated.

mod mg_wfbp;

use std::ops::Range;

use crate::compute::ComputeTimes;
use crate::units::{Bandwidth, Bytes, SimDuration, SimTime};
use crate::workload::Network;

/// One parameter tensor's gradient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gradient {
    /// The tensor's name.
    pub tensor: String,
    /// The name of the node it belongs to.
    pub node: String,
    /// Its size on the wire.
    pub bytes: Bytes,
    /// When it is ready, from the start of the backward pass.
    pub ready_after: SimDuration,
}

/// The gradients of `network` in the order in which they become ready: last layer first.
///
/// All tensors of a layer are ready when its backward pass ends; `element_bytes` is the size of
/// one gradient element on the wire.
#[must_use]
pub fn gradients(network: &Network, times: &ComputeTimes, element_bytes: u64) -> Vec<Gradient> {
    let mut ready_after = SimDuration::ZERO;
    let mut gradients = Vec::new();
    for (node, layer) in network.nodes().iter().zip(&times.layers).rev() {
        ready_after += layer.backward;
        // Inside a layer the bias comes after the weight, so in reverse it comes first.
        gradients.extend(node.parameters.iter().rev().map(|tensor| Gradient {
            tensor: tensor.name.clone(),
            node: node.name.clone(),
            bytes: Bytes::new(tensor.elements() * element_bytes),
            ready_after,
        }));
    }
    gradients
}

/// A rule that merges gradients into buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fusion {
    /// Each tensor travels alone.
    Tensor,
    /// All tensors travel together after the backward pass.
    OneBucket,
    /// A bucket is closed as soon as it holds at least this much (Jia et al. 2018, arXiv 1807.11205).
    Threshold(Bytes),
    /// A bucket is closed after each of these nodes, in the order of the backward pass, and at the
    /// end.
    Segments(Vec<String>),
    /// MG-WFBP: a bucket is closed unless the next gradient is ready less than a latency after the
    /// bucket could be sent (Shi et al. 2019, arXiv 1811.11141). An all-reduce of S bytes is taken to
    /// last `latency` + S / `bandwidth`, and gradients to be ready when those of an undisturbed rank
    /// are. Not always the earliest end, but never a later one than with each tensor alone or all
    /// together.
    MgWfbp {
        /// What an all-reduce takes before any byte, the paper's a.
        latency: SimDuration,
        /// Bytes of a bucket that an all-reduce gets through in a second, 1 / b of the paper.
        bandwidth: Bandwidth,
    },
    /// As Horovod does: whatever is ready on all ranks at a tick of the cycle travels together, in
    /// buckets of at most this much (a larger tensor travels alone). The time that ranks take to
    /// agree is not modelled.
    Cycle {
        /// The largest bucket.
        threshold: Bytes,
        /// The time between ticks.
        cycle: SimDuration,
    },
}

/// Gradients that travel together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Which gradients, as a range of the ready order.
    pub gradients: Range<usize>,
    /// Their size.
    pub bytes: Bytes,
    /// When the last of them is ready, from the start of the backward pass.
    pub ready_after: SimDuration,
}

fn bucket(gradients: &[Gradient], range: Range<usize>) -> Bucket {
    let members = &gradients[range.clone()];
    Bucket {
        bytes: members.iter().map(|gradient| gradient.bytes).sum(),
        ready_after: members.last().map_or(SimDuration::ZERO, |gradient| gradient.ready_after),
        gradients: range,
    }
}

impl Fusion {
    /// The size that closes a bucket, or that none exceeds, of rules that have one.
    #[must_use]
    pub const fn threshold(&self) -> Option<Bytes> {
        match self {
            Self::Threshold(threshold) | Self::Cycle { threshold, .. } => Some(*threshold),
            _ => None,
        }
    }

    /// The buckets of a rule that fixes them in advance; none for [`Fusion::Cycle`].
    #[must_use]
    pub fn static_buckets(&self, gradients: &[Gradient]) -> Option<Vec<Bucket>> {
        let mut buckets: Vec<Bucket> = Vec::new();
        let mut open = 0;
        let mut free = SimDuration::ZERO;
        for (index, gradient) in gradients.iter().enumerate() {
            let next = gradients.get(index + 1);
            let closes = match self {
                Self::Tensor => true,
                Self::OneBucket => false,
                Self::Threshold(threshold) => {
                    let held: Bytes = gradients[open..=index].iter().map(|g| g.bytes).sum();
                    held >= *threshold
                }
                Self::Segments(ends) => {
                    let same_node = next.is_some_and(|next| next.node == gradient.node);
                    ends.contains(&gradient.node) && !same_node
                }
                Self::MgWfbp { latency, bandwidth } => {
                    let line = (*latency, *bandwidth);
                    mg_wfbp::closes(&gradients[open..=index], next, line, &mut free)
                }
                Self::Cycle { .. } => return None,
            };
            if closes {
                buckets.push(bucket(gradients, open..index + 1));
                open = index + 1;
            }
        }
        if open < gradients.len() {
            buckets.push(bucket(gradients, open..gradients.len()));
        }
        Some(buckets)
    }
}

/// The first tick of `cycle` at or after `time`.
#[must_use]
pub fn next_tick(time: SimTime, cycle: SimDuration) -> SimTime {
    let cycle = cycle.as_ps().max(1);
    SimTime::from_ps(time.as_ps().div_ceil(cycle) * cycle)
}

/// The buckets of the gradients in `ready`, which became ready by one tick.
#[must_use]
pub fn cycle_buckets(gradients: &[Gradient], ready: Range<usize>, threshold: Bytes) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    let mut open = ready.start;
    let mut held = Bytes::ZERO;
    for index in ready.clone() {
        let more = gradients[index].bytes;
        if index > open && held + more > threshold {
            buckets.push(bucket(gradients, open..index));
            open = index;
            held = Bytes::ZERO;
        }
        held = held + more;
    }
    if open < ready.end {
        buckets.push(bucket(gradients, open..ready.end));
    }
    buckets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gradient(index: usize, bytes: u64) -> Gradient {
        Gradient {
            tensor: format!("t{index}"),
            node: format!("n{}", index / 2),
            bytes: Bytes::new(bytes),
            ready_after: SimDuration::from_ps(10 * index as u64),
        }
    }

    fn sizes(buckets: &[Bucket]) -> Vec<u64> {
        buckets.iter().map(|bucket| bucket.bytes.get()).collect()
    }

    #[test]
    fn each_rule_by_hand() {
        let gradients: Vec<Gradient> =
            [5, 1, 4, 6, 2, 3].into_iter().enumerate().map(|(i, b)| gradient(i, b)).collect();
        let fused = |rule: Fusion| sizes(&rule.static_buckets(&gradients).unwrap());
        assert_eq!(fused(Fusion::Tensor), [5, 1, 4, 6, 2, 3]);
        assert_eq!(fused(Fusion::OneBucket), [21]);
        assert_eq!(fused(Fusion::Threshold(Bytes::new(6))), [6, 10, 5]);
        assert_eq!(fused(Fusion::Segments(vec!["n0".into(), "n2".into()])), [6, 15]);
        assert_eq!(fused(Fusion::Segments(vec!["n1".into()])), [16, 5]);
        let buckets = Fusion::Threshold(Bytes::new(6)).static_buckets(&gradients).unwrap();
        assert_eq!(buckets[1].ready_after, SimDuration::from_ps(30));
        assert_eq!(sizes(&cycle_buckets(&gradients, 1..6, Bytes::new(6))), [5, 6, 5]);
    }

    #[test]
    fn ticks_are_multiples_of_the_cycle() {
        let tick = |ps| next_tick(SimTime::from_ps(ps), SimDuration::from_ps(10)).as_ps();
        assert_eq!([tick(0), tick(1), tick(10), tick(11)], [0, 10, 10, 20]);
    }

    proptest! {
        #[test]
        fn buckets_partition_the_gradients(
            sizes in prop::collection::vec(1_u64..100, 1..40),
            threshold in 1_u64..200,
            cut in 0_usize..20,
        ) {
            let gradients: Vec<Gradient> =
                sizes.iter().enumerate().map(|(index, &bytes)| gradient(index, bytes)).collect();
            let threshold = Bytes::new(threshold);
            let rules = [
                Fusion::Tensor,
                Fusion::OneBucket,
                Fusion::Threshold(threshold),
                Fusion::Segments(vec![format!("n{cut}")]),
                Fusion::MgWfbp {
                    latency: SimDuration::from_ps(threshold.get()),
                    bandwidth: Bandwidth::from_bytes_per_s(1_000_000_000_000),
                },
            ];
            let mut plans: Vec<Vec<Bucket>> =
                rules.iter().map(|rule| rule.static_buckets(&gradients).unwrap()).collect();
            plans.push(cycle_buckets(&gradients, 0..gradients.len(), threshold));
            for buckets in plans {
                let members: Vec<usize> = buckets.iter().flat_map(|b| b.gradients.clone()).collect();
                prop_assert_eq!(members, (0..gradients.len()).collect::<Vec<_>>());
                let bytes: u64 = buckets.iter().map(|bucket| bucket.bytes.get()).sum();
                prop_assert_eq!(bytes, sizes.iter().sum::<u64>());
            }
        }
    }
}

//! Links whose message times were measured: inside nodes and between them, each a curve.
//!
//! A library that sends messages changes its protocol with their size: eager and rendezvous, a copy
//! more or less. So one latency and one bandwidth do not do for all sizes. A [`LinkCurve`] has a pair
//! of them for each range of sizes, and what a message takes is α + c·S/B of its range, where c is
//! the number of messages of the round that share the link, as in [`TwoLevel`](super::TwoLevel).
//!
//! A measured message contains what its receiver does with it, such as adding it to a sum.

use super::{Contention, Link, LinkId, Message, NetworkModel, Rank, two_level};
use crate::units::{Bytes, SimDuration};

/// What messages of any size take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCurve {
    /// From which size on which link stands for it; sizes increase, the first is 0.
    ranges: Vec<(Bytes, Link)>,
}

impl LinkCurve {
    /// A curve of these ranges, each from a size on; none if there are none. They are put in order,
    /// and the first holds for smaller messages too.
    #[must_use]
    pub fn new(mut ranges: Vec<(Bytes, Link)>) -> Option<Self> {
        ranges.sort_by_key(|(from, _)| *from);
        ranges.dedup_by_key(|(from, _)| *from);
        ranges.first_mut()?.0 = Bytes::ZERO;
        Some(Self { ranges })
    }

    /// The link that stands for messages of `bytes`.
    #[must_use]
    pub fn link(&self, bytes: Bytes) -> Link {
        let after = self.ranges.partition_point(|(from, _)| *from <= bytes);
        // The first range begins at 0.
        self.ranges[after.saturating_sub(1)].1
    }

    /// The ranges, each from a size on.
    #[must_use]
    pub fn ranges(&self) -> &[(Bytes, Link)] {
        &self.ranges
    }

    /// What a message of `bytes` takes alone.
    #[must_use]
    pub fn message_time(&self, bytes: Bytes) -> SimDuration {
        self.link(bytes).message_time(bytes)
    }

    fn shared_time(&self, bytes: Bytes, sharers: u32) -> SimDuration {
        self.link(bytes).message_time(bytes * u64::from(sharers))
    }

    fn slowest_s(&self, bytes: f64, crowd: f64) -> f64 {
        let seconds = |link: &Link| {
            link.latency.as_seconds() + crowd * bytes / link.bandwidth.bytes_per_s() as f64
        };
        self.ranges.iter().map(|(_, link)| seconds(link)).fold(0.0, f64::max)
    }
}

impl From<Link> for LinkCurve {
    fn from(link: Link) -> Self {
        Self { ranges: vec![(Bytes::ZERO, link)] }
    }
}

/// Nodes of so many ranks, joined by measured links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredNetwork {
    ranks_per_node: u32,
    intra_node: LinkCurve,
    inter_node: LinkCurve,
    contention: Contention,
}

impl MeasuredNetwork {
    /// Nodes of `ranks_per_node` ranks each (at least one); messages of a round that leave or reach a
    /// node share its link.
    #[must_use]
    pub fn new(ranks_per_node: u32, intra_node: LinkCurve, inter_node: LinkCurve) -> Self {
        let contention = Contention::Shared;
        Self { ranks_per_node: ranks_per_node.max(1), intra_node, inter_node, contention }
    }

    /// The same network with another rule of contention. Flows need a graph: here they count as
    /// shared.
    #[must_use]
    pub fn with_contention(&self, contention: Contention) -> Self {
        Self { contention, ..self.clone() }
    }

    /// Ranks of one node.
    #[must_use]
    pub const fn ranks_per_node(&self) -> u32 {
        self.ranks_per_node
    }

    /// Whether messages slow each other down.
    #[must_use]
    pub const fn contention(&self) -> Contention {
        self.contention
    }

    const fn node(&self, rank: Rank) -> u32 {
        rank.0 / self.ranks_per_node
    }

    const fn curve(&self, message: &Message) -> &LinkCurve {
        if self.node(message.from) == self.node(message.to) {
            &self.intra_node
        } else {
            &self.inter_node
        }
    }

    /// The links that a message leaves and arrives by.
    fn links(&self, message: &Message) -> [LinkId; 2] {
        two_level::links(message, self.ranks_per_node, self.contention)
    }
}

impl NetworkModel for MeasuredNetwork {
    fn message_time(&self, message: &Message, sharers: &dyn Fn(LinkId) -> u32) -> SimDuration {
        let [out, into] = self.links(message).map(sharers);
        self.curve(message).shared_time(message.bytes, out.max(into))
    }

    fn visit_links(&self, message: &Message, visit: &mut dyn FnMut(LinkId)) {
        self.links(message).into_iter().for_each(visit);
    }

    fn transmission_time(&self, link: LinkId, bytes: Bytes) -> SimDuration {
        let curve = match link {
            LinkId::AcceleratorOut(_) | LinkId::AcceleratorIn(_) => &self.intra_node,
            _ => &self.inter_node,
        };
        curve.link(bytes).bandwidth.transmission_time(bytes)
    }

    fn slowest_message_s(&self, bytes: f64, ranks: u32) -> Option<f64> {
        let inside = self.intra_node.slowest_s(bytes, 1.0);
        if ranks <= self.ranks_per_node {
            return Some(inside);
        }
        Some(inside.max(self.inter_node.slowest_s(bytes, f64::from(self.ranks_per_node))))
    }

    fn ranks_share_links(&self) -> bool {
        self.contention != Contention::None && self.ranks_per_node > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::TwoLevel;

    fn link(text: &str) -> Link {
        text.parse().unwrap()
    }

    #[test]
    fn each_size_has_the_link_of_its_range() {
        let ranges =
            vec![(Bytes::new(1000), link("4 GB/s, 5 us")), (Bytes::ZERO, link("1 GB/s, 1 us"))];
        let curve = LinkCurve::new(ranges).unwrap();
        let us = |bytes| curve.message_time(Bytes::new(bytes)).as_us();
        // 1 µs + S / (1 GB/s) below 1000 bytes, 5 µs + S / (4 GB/s) from there.
        assert_eq!([us(0), us(500), us(999), us(1000), us(4000)], [1.0, 1.5, 1.999, 5.25, 6.0]);
        assert_eq!(LinkCurve::new(Vec::new()), None);
        // The first range holds for smaller messages, too.
        let from_64 = LinkCurve::new(vec![(Bytes::new(64), link("1 GB/s, 1 us"))]).unwrap();
        assert_eq!(from_64.message_time(Bytes::new(1)).as_ps(), 1_001_000);
    }

    #[test]
    fn one_range_is_the_network_of_two_kinds_of_links() {
        let (intra, inter) = (link("4 GB/s, 1 us"), link("1 GB/s, 2 us"));
        let measured = MeasuredNetwork::new(2, intra.into(), inter.into());
        let two_level = TwoLevel::new(2, intra, inter);
        for contention in [Contention::None, Contention::Shared] {
            let (measured, two_level) =
                (measured.with_contention(contention), two_level.with_contention(contention));
            assert_eq!(measured.ranks_share_links(), two_level.ranks_share_links());
            for (from, to) in [(0, 1), (0, 2), (3, 0)] {
                for sharers in 1..4 {
                    let (from, to) = (Rank(from), Rank(to));
                    let message = Message { from, to, channel: 0, bytes: Bytes::new(12_345) };
                    let time =
                        |network: &dyn NetworkModel| network.message_time(&message, &|_| sharers);
                    assert_eq!(time(&measured), time(&two_level));
                }
            }
            for ranks in [2, 4] {
                let slowest = |network: &dyn NetworkModel| network.slowest_message_s(1e6, ranks);
                assert_eq!(slowest(&measured), slowest(&two_level));
            }
        }
    }
}

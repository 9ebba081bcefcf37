//! Links of one kind inside a node and another between nodes, with or without sharing.
//!
//! Ranks are placed on nodes in order. A message of S bytes takes α + S/B. Inside a node it leaves by
//! its sender's link and arrives by its receiver's; between nodes by the interfaces of both nodes.
//! With [`Contention::Shared`], c messages of one round that leave or reach a node share its
//! interfaces for as long as the round lasts: each takes α + c·S/B, which is what fair sharing gives
//! when they start together. With [`Contention::None`] each rank has a link between nodes to itself.
//! Messages of one rank share its link with either rule.
//!
//! What it leaves out: messages of different rounds or collectives that meet on a link, ranks of a
//! round that start apart (they share all the same), and switches above the nodes.

use super::{Contention, Link, LinkId, Message, NetworkModel, Rank};
use crate::units::{Bytes, SimDuration};

/// The two-level network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoLevel {
    ranks_per_node: u32,
    intra_node: Link,
    inter_node: Link,
    contention: Contention,
}

impl TwoLevel {
    /// Nodes of `ranks_per_node` ranks each (at least one), joined by the given links, which the
    /// messages of a round share.
    #[must_use]
    pub const fn new(ranks_per_node: u32, intra_node: Link, inter_node: Link) -> Self {
        let ranks_per_node = if ranks_per_node == 0 { 1 } else { ranks_per_node };
        Self { ranks_per_node, intra_node, inter_node, contention: Contention::Shared }
    }

    /// The same network with another rule of contention. Flows need a graph: here they count as
    /// shared.
    #[must_use]
    pub const fn with_contention(self, contention: Contention) -> Self {
        Self { contention, ..self }
    }

    /// Ranks of one node.
    #[must_use]
    pub const fn ranks_per_node(&self) -> u32 {
        self.ranks_per_node
    }

    /// The link inside a node.
    #[must_use]
    pub const fn intra_node(&self) -> Link {
        self.intra_node
    }

    /// The link between nodes: all interfaces of a node.
    #[must_use]
    pub const fn inter_node(&self) -> Link {
        self.inter_node
    }

    /// Whether messages slow each other down.
    #[must_use]
    pub const fn contention(&self) -> Contention {
        self.contention
    }

    /// One link between any two ranks.
    #[must_use]
    pub const fn uniform(link: Link) -> Self {
        Self::new(1, link, link)
    }

    fn node(&self, rank: Rank) -> u32 {
        rank.0 / self.ranks_per_node
    }

    fn kind(&self, from: Rank, to: Rank) -> &Link {
        if self.node(from) == self.node(to) { &self.intra_node } else { &self.inter_node }
    }
}

impl TwoLevel {
    /// The links that a message leaves and arrives by.
    fn links(&self, message: &Message) -> [LinkId; 2] {
        links(message, self.ranks_per_node, self.contention)
    }
}

/// The links that a message leaves and arrives by, where ranks fill nodes in order.
pub(super) fn links(message: &Message, ranks_per_node: u32, contention: Contention) -> [LinkId; 2] {
    let &Message { from, to, .. } = message;
    let (from_node, to_node) = (from.0 / ranks_per_node, to.0 / ranks_per_node);
    if from_node == to_node {
        [LinkId::AcceleratorOut(from.0), LinkId::AcceleratorIn(to.0)]
    } else if contention == Contention::None {
        [LinkId::PortOut(from.0), LinkId::PortIn(to.0)]
    } else {
        [LinkId::NodeOut(from_node), LinkId::NodeIn(to_node)]
    }
}

impl NetworkModel for TwoLevel {
    fn message_time(&self, message: &Message, sharers: &dyn Fn(LinkId) -> u32) -> SimDuration {
        let [out, into] = self.links(message).map(sharers);
        let crowd = message.bytes * u64::from(out.max(into));
        self.kind(message.from, message.to).message_time(crowd)
    }

    fn visit_links(&self, message: &Message, visit: &mut dyn FnMut(LinkId)) {
        self.links(message).into_iter().for_each(visit);
    }

    fn transmission_time(&self, link: LinkId, bytes: Bytes) -> SimDuration {
        let kind = match link {
            LinkId::AcceleratorOut(_) | LinkId::AcceleratorIn(_) => &self.intra_node,
            _ => &self.inter_node,
        };
        kind.bandwidth.transmission_time(bytes)
    }

    fn slowest_message_s(&self, bytes: f64, ranks: u32) -> Option<f64> {
        let seconds = |link: Link, crowd: u32| {
            let bytes = bytes * f64::from(crowd);
            link.latency.as_seconds() + bytes / link.bandwidth.bytes_per_s() as f64
        };
        let inside = seconds(self.intra_node, 1);
        if ranks <= self.ranks_per_node {
            return Some(inside);
        }
        Some(inside.max(seconds(self.inter_node, self.ranks_per_node)))
    }

    fn ranks_share_links(&self) -> bool {
        self.contention != Contention::None && self.ranks_per_node > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharers_divide_the_bandwidth_and_not_the_latency() {
        let link = |text: &str| text.parse::<Link>().unwrap();
        let network = TwoLevel::new(4, link("4 GB/s, 1 us"), link("1 GB/s, 2 us"));
        let message = |from, to| {
            let (from, to) = (Rank(from), Rank(to));
            Message { from, to, channel: 0, bytes: Bytes::new(1000) }
        };
        let us = |to, sharers| network.message_time(&message(0, to), &|_| sharers).as_us();
        assert_eq!((us(1, 1), us(4, 1), us(4, 3)), (1.25, 3.0, 5.0));
        // The more crowded end decides.
        let into = |link| if matches!(link, LinkId::NodeIn(_)) { 2 } else { 1 };
        assert_eq!(network.message_time(&message(0, 4), &into).as_us(), 4.0);
        assert!(network.ranks_share_links());
        let links = |network: &TwoLevel, from, to| {
            let mut links = Vec::new();
            network.visit_links(&message(from, to), &mut |link| links.push(link));
            links
        };
        let inside = [LinkId::AcceleratorOut(1), LinkId::AcceleratorIn(2)];
        assert_eq!(links(&network, 1, 2), inside);
        assert_eq!(links(&network, 1, 4), [LinkId::NodeOut(0), LinkId::NodeIn(1)]);
        let alone = network.with_contention(Contention::None);
        assert!(!alone.ranks_share_links());
        assert_eq!(links(&alone, 1, 2), inside);
        assert_eq!(links(&alone, 1, 4), [LinkId::PortOut(1), LinkId::PortIn(4)]);
    }
}

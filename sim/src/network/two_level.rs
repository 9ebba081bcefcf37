//! Links of one kind inside a node and another between nodes, with or without sharing.
//!
//! Ranks are placed on nodes in order. A message of S bytes takes α + S/B. With
//! [`Contention::Shared`], c messages of one round that leave a node share its interfaces for as
//! long as the round lasts: each takes α + c·S/B, which is what fair sharing gives when they start
//! together. With [`Contention::None`] each has the link to itself.
//!
//! What it leaves out: messages that arrive at a node together (only those that leave share),
//! messages of different rounds or collectives that meet on a link, ranks of a round that start
//! apart (they share all the same), and switches above the nodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Link, LinkId, NetworkModel, Rank};
use crate::units::{Bytes, SimDuration};

/// Whether messages slow each other down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Contention {
    /// Messages of one round that leave a node share its interfaces.
    #[default]
    Shared,
    /// Every message has its link to itself.
    None,
}

impl std::fmt::Display for Contention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Shared => "shared",
            Self::None => "none",
        })
    }
}

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

    /// The same network with another rule of contention.
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

    /// What a message of `bytes` between any of `ranks` takes at most: on the slower kind of link,
    /// shared by all ranks of a node.
    #[must_use]
    pub fn slowest_message_time(&self, bytes: Bytes, ranks: u32) -> SimDuration {
        let inside = self.intra_node.message_time(bytes);
        if ranks <= self.ranks_per_node {
            return inside;
        }
        let sharers = if self.shares_links() { u64::from(self.ranks_per_node) } else { 1 };
        let crowd = Bytes::new(bytes.get().saturating_mul(sharers));
        inside.max(self.inter_node.message_time(crowd))
    }

    fn node(&self, rank: Rank) -> u32 {
        rank.0 / self.ranks_per_node
    }

    fn kind(&self, from: Rank, to: Rank) -> &Link {
        if self.node(from) == self.node(to) { &self.intra_node } else { &self.inter_node }
    }
}

impl NetworkModel for TwoLevel {
    fn message_time(&self, from: Rank, to: Rank, bytes: Bytes, sharers: u32) -> SimDuration {
        self.kind(from, to).message_time(bytes * u64::from(sharers))
    }

    fn link(&self, from: Rank, to: Rank) -> LinkId {
        let own = self.contention == Contention::None || self.node(from) == self.node(to);
        if own { LinkId::Accelerator(from.0) } else { LinkId::Node(self.node(from)) }
    }

    fn transmission_time(&self, from: Rank, to: Rank, bytes: Bytes) -> SimDuration {
        self.kind(from, to).bandwidth.transmission_time(bytes)
    }

    fn shares_links(&self) -> bool {
        self.contention == Contention::Shared && self.ranks_per_node > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharers_divide_the_bandwidth_and_not_the_latency() {
        let link = |text: &str| text.parse::<Link>().unwrap();
        let network = TwoLevel::new(4, link("4 GB/s, 1 us"), link("1 GB/s, 2 us"));
        let us = |to, sharers| {
            network.message_time(Rank(0), Rank(to), Bytes::new(1000), sharers).as_us()
        };
        assert_eq!((us(1, 1), us(4, 1), us(4, 3)), (1.25, 3.0, 5.0));
        assert!(network.shares_links());
        assert!(!network.with_contention(Contention::None).shares_links());
        assert_eq!(network.link(Rank(1), Rank(2)), LinkId::Accelerator(1));
        assert_eq!(network.link(Rank(1), Rank(4)), LinkId::Node(0));
    }
}

//! Contention-free links, of one kind inside a node and another between nodes.
//!
//! Ranks are placed on nodes in order. What it leaves out: messages that leave one node at the same
//! time do not slow each other down, nor do switches above the nodes.

use super::{Link, LinkId, NetworkModel, Rank};
use crate::units::{Bytes, SimDuration};

/// The two-level network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoLevel {
    ranks_per_node: u32,
    intra_node: Link,
    inter_node: Link,
}

impl TwoLevel {
    /// Nodes of `ranks_per_node` ranks each (at least one), joined by the given links.
    #[must_use]
    pub const fn new(ranks_per_node: u32, intra_node: Link, inter_node: Link) -> Self {
        let ranks_per_node = if ranks_per_node == 0 { 1 } else { ranks_per_node };
        Self { ranks_per_node, intra_node, inter_node }
    }

    /// One link between any two ranks.
    #[must_use]
    pub const fn uniform(link: Link) -> Self {
        Self::new(1, link, link)
    }

    /// What a message of `bytes` takes on the slower kind of link.
    #[must_use]
    pub fn slowest_message_time(&self, bytes: Bytes) -> SimDuration {
        self.intra_node.message_time(bytes).max(self.inter_node.message_time(bytes))
    }

    fn node(&self, rank: Rank) -> u32 {
        rank.0 / self.ranks_per_node
    }

    fn link(&self, from: Rank, to: Rank) -> &Link {
        if self.node(from) == self.node(to) { &self.intra_node } else { &self.inter_node }
    }
}

impl NetworkModel for TwoLevel {
    fn message_time(&self, from: Rank, to: Rank, bytes: Bytes) -> SimDuration {
        self.link(from, to).message_time(bytes)
    }

    fn occupancy(&self, from: Rank, to: Rank, bytes: Bytes) -> (LinkId, SimDuration) {
        let id = if self.node(from) == self.node(to) {
            LinkId::Accelerator(from.0)
        } else {
            LinkId::Node(self.node(from))
        };
        (id, self.link(from, to).bandwidth.transmission_time(bytes))
    }
}

//! Networks: how long a message takes from one rank to another.
//!
//! [`NetworkModel`] is one small trait; each fidelity is a file of its own. They are a ladder, whose
//! rungs are named by [`Contention`]:
//!
//! - *none*: every rank has its links to itself;
//! - *shared*: messages of one round that meet share their links for as long as the round lasts;
//! - *fair-share*, *max-min*: messages are flows over time, and a link is divided anew whenever one
//!   begins or ends ([`FlowNetwork`], [`Sharing`]).
//!
//! [`TwoLevel`] has links inside and between nodes, for the first two rungs. A [`GraphNetwork`] has
//! every link of a [`Graph`], generated from the parameters of a [`Cluster`] or listed link by link
//! ([`GraphSpec`]), for all four. A [`MeasuredNetwork`] has two kinds of links whose message times
//! were measured. [`Interconnect`] is any of them.

mod flows;
mod graph;
mod graph_network;
mod ladder;
mod link;
mod measured;
mod sharing;
mod topology;
mod two_level;

pub use flows::{EdgeUse, FlowNetwork};
pub use graph::{
    Edge, EdgeId, EdgeSpec, Graph, GraphBuilder, GraphError, GraphSpec, KeptDistances, Router,
    Vertex, VertexId, VertexKind, VertexSpec, ecmp_hash,
};
pub use graph_network::GraphNetwork;
pub use ladder::{Contention, Interconnect};
pub use link::Link;
pub use measured::{LinkCurve, MeasuredNetwork};
pub use sharing::{FairShare, MaxMin, Rate, ShareRule, Sharing, Traffic};
pub use topology::{Cluster, FabricTopology, NodeTopology};
pub use two_level::TwoLevel;

use std::fmt;

use crate::units::{Bytes, SimDuration};

/// One process of a training run, driving one accelerator; counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(pub u32);

impl Rank {
    /// The rank as an index into arrays of ranks.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}", self.0)
    }
}

/// A link that can be busy, one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkId {
    /// Out of an accelerator, inside its node.
    AcceleratorOut(u32),
    /// Into an accelerator, inside its node.
    AcceleratorIn(u32),
    /// Out of an accelerator to other nodes, where each has its own way.
    PortOut(u32),
    /// Into an accelerator from other nodes, where each has its own way.
    PortIn(u32),
    /// Out of a node.
    NodeOut(u32),
    /// Into a node.
    NodeIn(u32),
    /// An edge of a graph.
    Edge(EdgeId),
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceleratorOut(rank) => write!(f, "out of accelerator {rank}"),
            Self::AcceleratorIn(rank) => write!(f, "into accelerator {rank}"),
            Self::PortOut(rank) => write!(f, "out of the port of accelerator {rank}"),
            Self::PortIn(rank) => write!(f, "into the port of accelerator {rank}"),
            Self::NodeOut(node) => write!(f, "out of node {node}"),
            Self::NodeIn(node) => write!(f, "into node {node}"),
            Self::Edge(edge) => write!(f, "link {}", edge.0),
        }
    }
}

/// A message of a collective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: Rank,
    /// The receiver.
    pub to: Rank,
    /// The collective's channel, which may have a path of its own.
    pub channel: u32,
    /// Payload.
    pub bytes: Bytes,
}

/// How long messages take.
pub trait NetworkModel: Sync {
    /// From the moment both ends are ready until the last byte has arrived, when each link carries
    /// as many messages at once as `sharers` says (this one included).
    fn message_time(&self, message: &Message, sharers: &dyn Fn(LinkId) -> u32) -> SimDuration;

    /// Visits the links that a message takes, in order.
    fn visit_links(&self, message: &Message, visit: &mut dyn FnMut(LinkId));

    /// Visits the links on which a message may meet others: those it takes, or others in their
    /// place where ranks do not get in each other's way.
    fn visit_shared(&self, message: &Message, visit: &mut dyn FnMut(LinkId)) {
        self.visit_links(message, visit);
    }

    /// How long `bytes` alone occupy a link.
    fn transmission_time(&self, link: LinkId, bytes: Bytes) -> SimDuration;

    /// What a link is called.
    fn link_name(&self, link: LinkId) -> String {
        link.to_string()
    }

    /// What a message between any of `ranks` takes at most, in seconds, if all send one at once; none
    /// where that depends on who sends to whom.
    fn slowest_message_s(&self, bytes: f64, ranks: u32) -> Option<f64>;

    /// Whether messages of different ranks may meet on a link (with other messages of the same rank
    /// they always do).
    fn ranks_share_links(&self) -> bool;

    /// Where messages are flows: over which graph, sharing how. Then only the event engine can tell
    /// how long they take.
    fn flows(&self) -> Option<(&Graph, Sharing)> {
        None
    }
}

//! The ladder of fidelity: how messages meet, and a network of either kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Graph, GraphNetwork, Link, LinkId, MeasuredNetwork, Message, NetworkModel, Sharing, TwoLevel,
};
use crate::units::{Bytes, SimDuration};

/// Whether messages slow each other down, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Contention {
    /// Every message has its link to itself, but for others of the same rank.
    None,
    /// Messages of one round share the links on which they meet, as long as the round lasts.
    #[default]
    Shared,
    /// Messages are flows; each link is divided equally among those on it.
    FairShare,
    /// Messages are flows with max-min fair rates: what one cannot use goes to the others.
    MaxMin,
}

impl Contention {
    /// How flows share links, if messages are flows.
    #[must_use]
    pub const fn sharing(self) -> Option<Sharing> {
        match self {
            Self::None | Self::Shared => None,
            Self::FairShare => Some(Sharing::FairShare),
            Self::MaxMin => Some(Sharing::MaxMin),
        }
    }
}

impl std::fmt::Display for Contention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Shared => "shared",
            Self::FairShare => "fair-share",
            Self::MaxMin => "max-min",
        })
    }
}

/// A network of any kind.
#[derive(Debug, Clone)]
pub enum Interconnect {
    /// Links inside nodes and between them.
    TwoLevel(TwoLevel),
    /// Every link of a graph.
    Graph(GraphNetwork),
    /// Links inside nodes and between them, as they were measured.
    Measured(MeasuredNetwork),
}

impl Interconnect {
    /// Ranks of one node.
    #[must_use]
    pub const fn ranks_per_node(&self) -> u32 {
        match self {
            Self::TwoLevel(network) => network.ranks_per_node(),
            Self::Graph(network) => network.ranks_per_node(),
            Self::Measured(network) => network.ranks_per_node(),
        }
    }

    /// Whether messages slow each other down, and how.
    #[must_use]
    pub const fn contention(&self) -> Contention {
        match self {
            Self::TwoLevel(network) => network.contention(),
            Self::Graph(network) => network.contention(),
            Self::Measured(network) => network.contention(),
        }
    }

    /// The same network with another rule of contention, as far as it knows it.
    #[must_use]
    pub fn with_contention(&self, contention: Contention) -> Self {
        match self {
            Self::TwoLevel(network) => Self::TwoLevel(network.with_contention(contention)),
            Self::Graph(network) => Self::Graph(network.with_contention(contention)),
            Self::Measured(network) => Self::Measured(network.with_contention(contention)),
        }
    }

    /// One link between any two ranks.
    #[must_use]
    pub const fn uniform(link: Link) -> Self {
        Self::TwoLevel(TwoLevel::uniform(link))
    }

    fn model(&self) -> &dyn NetworkModel {
        match self {
            Self::TwoLevel(network) => network,
            Self::Graph(network) => network,
            Self::Measured(network) => network,
        }
    }
}

impl From<TwoLevel> for Interconnect {
    fn from(network: TwoLevel) -> Self {
        Self::TwoLevel(network)
    }
}

impl From<GraphNetwork> for Interconnect {
    fn from(network: GraphNetwork) -> Self {
        Self::Graph(network)
    }
}

impl From<MeasuredNetwork> for Interconnect {
    fn from(network: MeasuredNetwork) -> Self {
        Self::Measured(network)
    }
}

impl NetworkModel for Interconnect {
    fn message_time(&self, message: &Message, sharers: &dyn Fn(LinkId) -> u32) -> SimDuration {
        self.model().message_time(message, sharers)
    }

    fn visit_links(&self, message: &Message, visit: &mut dyn FnMut(LinkId)) {
        self.model().visit_links(message, visit);
    }

    fn visit_shared(&self, message: &Message, visit: &mut dyn FnMut(LinkId)) {
        self.model().visit_shared(message, visit);
    }

    fn transmission_time(&self, link: LinkId, bytes: Bytes) -> SimDuration {
        self.model().transmission_time(link, bytes)
    }

    fn link_name(&self, link: LinkId) -> String {
        self.model().link_name(link)
    }

    fn slowest_message_s(&self, bytes: f64, ranks: u32) -> Option<f64> {
        self.model().slowest_message_s(bytes, ranks)
    }

    fn ranks_share_links(&self) -> bool {
        self.model().ranks_share_links()
    }

    fn flows(&self) -> Option<(&Graph, Sharing)> {
        self.model().flows()
    }
}

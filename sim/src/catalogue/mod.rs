//! Hardware as data: accelerators, links and nodes from their datasheets, each with its source.
//!
//! Three TOML files beside this page are the catalogue; nothing in them is fitted to a
//! training run. A scenario names an entry or describes its own. What is fitted to published runs
//! is in a file of its own, `overheads.toml` ([`Overheads`]).

mod nvidia;
mod overheads;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::units::{Bandwidth, Bytes, ComputeRate, Power, Price, SimDuration};

pub use nvidia::{ComputeCapability, Nvlink};
pub use overheads::{Fitted, Overheads};

/// An accelerator's datasheet.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// The catalogue's name, such as `v100-sxm2-16gb`.
    pub name: String,
    /// The maker's name for it.
    pub title: String,
    /// Other names it goes by.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Year of release.
    pub year: u16,
    /// Streaming multiprocessors, cores: what works in parallel.
    pub compute_units: u32,
    /// What NVIDIA's libraries ask of it; other makers' accelerators have none.
    pub compute_capability: Option<ComputeCapability>,
    /// Peak rate of matrix products by precision (`fp32`, `tf32`, `fp16`, `bf16`), without sparsity;
    /// empty where the maker published none.
    #[serde(default)]
    pub matrix_rates: BTreeMap<String, ComputeRate>,
    /// Peak fp32 rate outside matrix units, where published.
    pub vector_rate: Option<ComputeRate>,
    /// Capacity of the device memory.
    pub memory: Bytes,
    /// Bandwidth of the device memory.
    pub memory_bandwidth: Bandwidth,
    /// Power of the board at most.
    pub board_power: Power,
    /// The link to the host's memory.
    pub host_link: Option<String>,
    /// On-demand price of one accelerator in a public cloud.
    pub price_per_hour: Option<Price>,
    /// Where the price was listed.
    pub price_source: Option<String>,
    /// When the price was listed.
    pub price_date: Option<String>,
    /// Where the figures are from.
    pub source: String,
    /// What a reader should know.
    pub note: Option<String>,
}

/// Whether a link joins accelerators of one node or nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// Between accelerators of a node.
    IntraNode,
    /// Between nodes, from one network interface.
    InterNode,
}

/// A kind of link.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkType {
    /// The catalogue's name, such as `nvlink2-nvswitch`.
    pub name: String,
    /// Its proper name.
    pub title: String,
    /// Other names it goes by.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Inside a node or between nodes.
    pub kind: LinkKind,
    /// Its links, where it is NVLink.
    pub nvlink: Option<Nvlink>,
    /// Payload bandwidth, one way, of one accelerator or one port.
    pub bandwidth: Bandwidth,
    /// The advertised rate, one way.
    pub line_rate: Bandwidth,
    /// How `bandwidth` follows from `line_rate`.
    pub efficiency_source: String,
    /// From the start of a small message to its arrival, software included, where documented.
    pub latency: Option<SimDuration>,
    /// Where the latency is from.
    pub latency_source: Option<String>,
    /// Where the figures are from.
    pub source: String,
    /// What a reader should know.
    pub note: Option<String>,
}

/// A kind of node.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeType {
    /// The catalogue's name, such as `dgx-1-v100`.
    pub name: String,
    /// Its proper name.
    pub title: String,
    /// Other names it goes by.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The accelerator in it.
    pub accelerator: String,
    /// How many accelerators.
    pub accelerators: u32,
    /// The link between them; none where a node has one accelerator.
    pub intra_node_link: Option<String>,
    /// The link of one network interface.
    pub nic: Option<String>,
    /// How many network interfaces.
    #[serde(default = "one")]
    pub nics: u32,
    /// Physical cores of the host.
    pub cpu_cores: Option<u32>,
    /// Memory of the host.
    pub host_memory: Option<Bytes>,
    /// Power of the whole node at most.
    pub node_power: Option<Power>,
    /// Where the figures are from.
    pub source: String,
    /// What a reader should know.
    pub note: Option<String>,
}

const fn one() -> u32 {
    1
}

/// The catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    accelerators: Vec<Accelerator>,
    links: Vec<LinkType>,
    nodes: Vec<NodeType>,
}

trait Entry {
    fn names(&self) -> impl Iterator<Item = &str>;
}

macro_rules! entry {
    ($($type:ty),+) => {$(
        impl Entry for $type {
            fn names(&self) -> impl Iterator<Item = &str> {
                std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
            }
        }
    )+};
}
entry!(Accelerator, LinkType, NodeType);

fn find<'a, T: Entry>(entries: &'a [T], name: &str) -> Option<&'a T> {
    entries.iter().find(|entry| entry.names().any(|known| known == name))
}

fn names<T: Entry>(entries: &[T]) -> Vec<&str> {
    entries.iter().flat_map(Entry::names).collect()
}

impl Catalogue {
    /// The catalogue that comes with this version.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<Catalogue> = LazyLock::new(|| {
            #[derive(Deserialize)]
            struct Files {
                accelerator: Vec<Accelerator>,
                link: Vec<LinkType>,
                node: Vec<NodeType>,
            }
            let text = concat!(
                include_str!("accelerators.toml"),
                "\n",
                include_str!("links.toml"),
                "\n",
                include_str!("nodes.toml")
            );
            #[expect(clippy::expect_used, reason = "a test reads the shipped files")]
            let Files { accelerator, link, node } =
                toml::from_str(text).expect("the shipped catalogue is well-formed");
            Catalogue { accelerators: accelerator, links: link, nodes: node }
        });
        &SHIPPED
    }

    /// The accelerator called `name`.
    #[must_use]
    pub fn accelerator(&self, name: &str) -> Option<&Accelerator> {
        find(&self.accelerators, name)
    }

    /// The link called `name`.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&LinkType> {
        find(&self.links, name)
    }

    /// The node called `name`.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeType> {
        find(&self.nodes, name)
    }

    /// Every name of an accelerator, for error messages.
    #[must_use]
    pub fn accelerator_names(&self) -> Vec<&str> {
        names(&self.accelerators)
    }

    /// Every name of a link, for error messages.
    #[must_use]
    pub fn link_names(&self) -> Vec<&str> {
        names(&self.links)
    }

    /// Every name of a node, for error messages.
    #[must_use]
    pub fn node_names(&self) -> Vec<&str> {
        names(&self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reference_resolves_and_every_name_is_one() {
        let catalogue = Catalogue::shipped();
        for node in &catalogue.nodes {
            assert!(catalogue.accelerator(&node.accelerator).is_some(), "{}", node.name);
            for (link, kind) in
                [(&node.intra_node_link, LinkKind::IntraNode), (&node.nic, LinkKind::InterNode)]
            {
                let found = link.as_deref().map(|name| catalogue.link(name).map(|link| link.kind));
                assert!(found.is_none_or(|found| found == Some(kind)), "{}", node.name);
            }
        }
        for accelerator in &catalogue.accelerators {
            let host_link = accelerator.host_link.as_deref();
            assert!(host_link.is_none_or(|name| catalogue.link(name).is_some()));
            let rates = &accelerator.matrix_rates;
            assert!(rates.is_empty() || rates.contains_key("fp32"), "{}", accelerator.name);
            assert_eq!(rates.is_empty(), accelerator.vector_rate.is_none(), "{}", accelerator.name);
            assert_eq!(accelerator.price_per_hour.is_some(), accelerator.price_date.is_some());
            assert_eq!(accelerator.price_per_hour.is_some(), accelerator.price_source.is_some());
        }
        for names in [catalogue.accelerator_names(), catalogue.link_names(), catalogue.node_names()]
        {
            let unique: BTreeSet<&str> = names.iter().copied().collect();
            assert_eq!(unique.len(), names.len());
        }
    }

    #[test]
    fn nvlink_and_compute_capability_are_where_they_belong() {
        let catalogue = Catalogue::shipped();
        for link in &catalogue.links {
            assert_eq!(link.nvlink.is_some(), link.name.starts_with("nvlink"), "{}", link.name);
            if let Some(nvlink) = link.nvlink {
                assert!((1..=nvlink.links).contains(&nvlink.links_to_peer), "{}", link.name);
                assert_eq!(nvlink.switched, nvlink.links == nvlink.links_to_peer, "{}", link.name);
                let rate = link.line_rate.bytes_per_s() / u64::from(nvlink.links);
                assert!([20, 25, 50].contains(&(rate / 1_000_000_000)), "{}", link.name);
            }
        }
        for accelerator in &catalogue.accelerators {
            let by_nvidia = accelerator.title.starts_with("NVIDIA");
            assert_eq!(accelerator.compute_capability.is_some(), by_nvidia, "{}", accelerator.name);
        }
    }

    #[test]
    fn no_link_beats_its_line_rate() {
        for link in &Catalogue::shipped().links {
            assert!(link.bandwidth <= link.line_rate, "{}", link.name);
        }
    }
}

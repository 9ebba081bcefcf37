//! What joins the machines of a point: two kinds of links, or a graph with every link.

use std::sync::Arc;

use super::machine::{Machine, NODE_EXAMPLE};
use super::problem::Problem;
use crate::network::{
    Cluster, FabricTopology, Graph, GraphError, GraphNetwork, Interconnect, Link, LinkCurve,
    MeasuredNetwork, NodeTopology, Rank, TwoLevel,
};
use crate::units::SimDuration;

impl Machine {
    /// All network interfaces of a node as one link, as when messages are striped over rails; but
    /// what one accelerator sends cannot leave it faster than its own link inside the node.
    fn node_link(&self, nic: Link) -> Link {
        let all = nic.bandwidth * u64::from(self.nics);
        let own = self.intra_node.map_or(all, |link| link.bandwidth.max(nic.bandwidth));
        Link { latency: nic.latency, bandwidth: all.min(own) }
    }

    /// Whether every link of a graph counts, not only two kinds.
    pub(super) fn is_graph(&self) -> bool {
        let cluster = &self.cluster;
        let contention = cluster.contention.unwrap_or_default();
        contention.sharing().is_some()
            || cluster.node_topology.is_some()
            || cluster.fabric.is_some()
            || cluster.graph.is_some()
    }

    pub(super) fn network(&self, accelerators: u32) -> Result<Interconnect, Problem> {
        if self.is_graph() { self.graph(accelerators) } else { self.two_level(accelerators) }
    }

    /// The network link by link.
    fn graph(&self, accelerators: u32) -> Result<Interconnect, Problem> {
        let cluster = &self.cluster;
        let (key, graph) = match &cluster.graph {
            Some(graph) => {
                if cluster.node_topology.is_some() || cluster.fabric.is_some() {
                    let problem = "given beside a topology: leave one of them out";
                    return Err(Problem::new("cluster.graph", problem));
                }
                ("cluster.graph", graph.build())
            }
            None => {
                let inside = cluster.node_topology.unwrap_or_else(|| self.usual_topology());
                let between = cluster.fabric.clone().unwrap_or(FabricTopology::SingleSwitch {});
                let two_level = self.links(accelerators)?;
                let cluster = Cluster {
                    nodes: accelerators.div_ceil(self.accelerators_per_node),
                    accelerators_per_node: self.accelerators_per_node,
                    intra_node: two_level.0,
                    nic: self.inter_node.unwrap_or(two_level.1),
                    nics_per_node: self.nics,
                };
                let graph = cluster.graph(&inside, &between);
                // One node alone has no fabric to blame.
                let one = Cluster { nodes: 1, ..cluster };
                let key = match &graph {
                    Err(GraphError::NicLatencyTooLow { .. }) => "cluster.inter_node_link",
                    Err(_) if one.graph(&inside, &between).is_err() => "cluster.node_topology",
                    _ => "cluster.fabric",
                };
                (key, graph)
            }
        };
        if cluster.graph.is_some()
            && let Ok(graph) = &graph
            && let Some(rank) = self.misplaced(graph, accelerators)
        {
            let per_node = self.accelerators_per_node;
            let problem = format!(
                "accelerators are taken {per_node} to a node in order, and their `node` says \
                 otherwise from the one of {rank} on: mend it or cluster.accelerators_per_node"
            );
            return Err(Problem::new("cluster.graph", problem));
        }
        let layout = (accelerators, self.accelerators_per_node);
        let contention = cluster.contention.unwrap_or_default();
        graph
            .and_then(|graph| GraphNetwork::new(Arc::new(graph), layout, contention))
            .map(Interconnect::from)
            .map_err(|error| Problem::new(key, error.to_string()))
    }

    /// The first rank whose node in the graph is not the one it has by its number.
    fn misplaced(&self, graph: &Graph, accelerators: u32) -> Option<Rank> {
        let node = |rank| graph.vertex(graph.accelerator(rank)?).node;
        (1..accelerators).map(Rank).find(|&rank| {
            let together = !rank.0.is_multiple_of(self.accelerators_per_node);
            match (node(Rank(rank.0 - 1)), node(rank)) {
                (Some(before), Some(here)) => (before == here) != together,
                _ => false,
            }
        })
    }

    /// What joins the accelerators of a node, as their kind of link suggests.
    fn usual_topology(&self) -> NodeTopology {
        let name = self.intra_node_type.map_or("", |link| link.name.as_str());
        match self.intra_node_type.and_then(|link| link.nvlink) {
            Some(nvlink) if name.ends_with("cube-mesh") && self.accelerators_per_node == 8 => {
                NodeTopology::HybridCubeMesh { nvlinks: Some(nvlink.links) }
            }
            Some(nvlink) if !nvlink.switched => NodeTopology::Mesh {},
            // Gaudi: seven ports, one to each of the others.
            None if name == "ethernet-7x100g" => NodeTopology::Mesh {},
            None if name.starts_with("pcie") => NodeTopology::PcieTree {
                accelerators_per_switch: None,
                sockets: None,
                uplink: None,
                socket_link: None,
            },
            _ => NodeTopology::Switch {},
        }
    }

    fn two_level(&self, accelerators: u32) -> Result<Interconnect, Problem> {
        if self.measured_intra_node.is_some() || self.measured_inter_node.is_some() {
            return self.measured(accelerators);
        }
        let (intra_node, inter_node) = self.links(accelerators)?;
        let network = TwoLevel::new(self.accelerators_per_node, intra_node, inter_node);
        let contention = self.cluster.contention.unwrap_or_default();
        Ok(network.with_contention(contention).into())
    }

    /// Links as a profile measured them, or as given.
    fn measured(&self, accelerators: u32) -> Result<Interconnect, Problem> {
        let given = self.intra_node.map(LinkCurve::from);
        let intra = self.measured_intra_node.clone().or(given);
        let given = self.inter_node.map(|nic| self.node_link(nic).into());
        let inter = self.measured_inter_node.clone().or(given);
        let missing = |key: &str| {
            let problem = "missing, and the profile has not measured it: give \"100 Gbit/s, 5 us\"";
            Problem::new(key, problem)
        };
        let per_node = self.accelerators_per_node;
        if intra.is_none() && per_node > 1 && accelerators > 1 {
            return Err(missing("cluster.intra_node_link"));
        }
        if inter.is_none() && accelerators > per_node {
            return Err(missing("cluster.inter_node_link"));
        }
        // A link that no message takes may be anything.
        let (Some(intra), Some(inter)) = (intra.clone().or(inter.clone()), inter.or(intra)) else {
            return Err(missing("cluster.inter_node_link"));
        };
        let network = MeasuredNetwork::new(per_node, intra, inter);
        let contention = self.cluster.contention.unwrap_or_default();
        Ok(network.with_contention(contention).into())
    }

    /// The links inside nodes and between them, all interfaces of a node together.
    pub(super) fn links(&self, accelerators: u32) -> Result<(Link, Link), Problem> {
        let missing = |key: &str| {
            let problem = format!("missing: give \"100 Gbit/s, 5 us\" or a name, {NODE_EXAMPLE}");
            Problem::new(key, problem)
        };
        let inter_node = self.inter_node.map(|nic| self.node_link(nic));
        let many_nodes = accelerators > self.accelerators_per_node;
        Ok(match (self.intra_node, inter_node) {
            (Some(intra), Some(inter)) => (intra, inter),
            (None, _) if self.accelerators_per_node > 1 && accelerators > 1 => {
                return Err(missing("cluster.intra_node_link"));
            }
            (_, None) if many_nodes => return Err(missing("cluster.inter_node_link")),
            // A link that no message takes may be anything.
            (Some(only), None) | (None, Some(only)) => (only, only),
            (None, None) => {
                let bandwidth = self.accelerator.memory_bandwidth;
                let unused = Link { latency: SimDuration::ZERO, bandwidth };
                (unused, unused)
            }
        })
    }
}

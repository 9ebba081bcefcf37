//! Every link of a node, and nodes joined by a switch.
//!
//! Messages take the fewest hops. So that they prefer NVLink, as NCCL does, an accelerator with
//! NVLinks reaches PCIe over one hop more, its slot. Where NVLink joins all accelerators, if need be
//! through another one (NCCL's `PATH_NVB`), these forward. The latency of a kind of link is halved
//! between the first and the last link of a way, so that each link has the same both ways.

use foretrain_sim::network::{EdgeSpec, GraphSpec, VertexKind, VertexSpec};
use foretrain_sim::units::{Bandwidth, SimDuration};

use super::bandwidth::{UNLIMITED, nvlink};
use super::cluster::network_latency;
use super::{ClusterOptions, ImportError, NcclTopology, Parent};

/// Nodes of a graph at most: one more is some thirty vertices and sixty links.
const NODES_MAX: u32 = 1024;

const FABRIC: &str = "fabric";

/// How NVLink joins accelerators.
struct Reach {
    counts: Vec<Vec<u32>>,
    /// Whether all reach each other over NVLink, at most one between.
    complete: bool,
    /// Whether one must be between for some.
    through_others: bool,
    any: bool,
}

/// Latencies of messages.
struct Latencies {
    nvlink: SimDuration,
    pcie: SimDuration,
    /// From each interface.
    network: Vec<SimDuration>,
}

struct Builder<'a> {
    topology: &'a NcclTopology,
    graph: GraphSpec,
    node: u32,
}

impl NcclTopology {
    fn reach(&self) -> Reach {
        let counts = self.nvlink_counts();
        let gpus = 0..self.gpus.len();
        let switched = |gpu: usize| self.gpus[gpu].switch_nvlinks > 0;
        let direct = |a: usize, b: usize| counts[a][b] > 0 || (switched(a) && switched(b));
        let pairs: Vec<(usize, usize)> =
            gpus.clone().flat_map(|a| (0..a).map(move |b| (a, b))).collect();
        let near = |(a, b): (usize, usize)| {
            gpus.clone().any(|c| c != a && c != b && direct(a, c) && direct(c, b))
        };
        let far: Vec<_> = pairs.iter().filter(|&&(a, b)| !direct(a, b)).collect();
        let complete = far.iter().all(|&&pair| near(pair));
        let any = gpus.clone().any(switched) || counts.iter().flatten().any(|count| *count > 0);
        Reach { through_others: far.iter().any(|&&pair| near(pair)), complete, counts, any }
    }

    /// The graph of `options.nodes` such nodes.
    pub(super) fn graph(
        &self,
        options: &ClusterOptions,
        warnings: &mut Vec<String>,
    ) -> Result<GraphSpec, ImportError> {
        if options.nodes > NODES_MAX {
            let problem = format!(
                "{} nodes of which every link is written, expected at most {NODES_MAX}: describe \
                 the network in fewer words",
                options.nodes
            );
            return Err(ImportError::new(problem));
        }
        let reach = self.reach();
        let many = options.nodes > 1;
        if reach.through_others && !reach.complete {
            let warning = "some accelerators reach each other over NVLinks of a third, and not all \
                           do: such messages are taken to go by PCIe";
            warnings.push(warning.to_owned());
        }
        if !reach.complete && self.cpus.iter().any(|cpu| cpu.is_intel) {
            let warning = "that PCIe traffic between accelerators costs a fifth more on Intel's CPUs \
                           (NCCL's INTEL_P2P_OVERHEAD) is not represented";
            warnings.push(warning.to_owned());
        }
        let network = |nic| network_latency(nic, options);
        let latencies = Latencies {
            nvlink: if reach.any { self.nvlink_latency(options)? } else { SimDuration::ZERO },
            // On the way to interfaces alone, it is part of the network's.
            pcie: if reach.complete { SimDuration::ZERO } else { self.pcie_latency(options)? },
            network: match many {
                true => self.nics.iter().map(network).collect::<Result<_, _>>()?,
                false => Vec::new(),
            },
        };
        if let Some(network) = latencies.network.iter().find(|latency| **latency < latencies.pcie) {
            let problem = format!(
                "the network's latency ({network}) is below that of PCIe ({}), which is part of it: \
                 give both",
                latencies.pcie
            );
            return Err(ImportError::new(problem));
        }
        let mut builder = Builder { topology: self, graph: GraphSpec::default(), node: 0 };
        if many {
            builder.vertex(FABRIC.to_owned(), VertexKind::Switch, None);
        }
        for node in 0..options.nodes {
            builder.node = node;
            builder.accelerators(&reach, many);
            builder.nvlinks(&reach, latencies.nvlink);
            if many || !reach.complete {
                builder.pcie(&reach, latencies.pcie);
            }
            if many {
                builder.nics(&latencies);
            }
        }
        Ok(builder.graph)
    }
}

impl Builder<'_> {
    fn name(&self, kind: &str, place: usize) -> String {
        format!("node {}/{kind} {place}", self.node)
    }

    fn parent(&self, parent: Parent) -> String {
        match parent {
            Parent::Cpu(place) => self.name("cpu", place),
            Parent::Switch(place) => self.name("switch", place),
        }
    }

    fn vertex(&mut self, name: String, kind: VertexKind, node: Option<u32>) {
        let nics = Vec::new();
        self.graph.vertices.push(VertexSpec { name, kind, node, forwards: None, nics });
    }

    fn link(&mut self, from: String, to: String, bandwidth: Bandwidth, latency: SimDuration) {
        let latency = (latency != SimDuration::ZERO).then_some(latency);
        self.graph.links.push(EdgeSpec {
            from,
            to,
            bandwidth,
            latency,
            one_way: false,
            name: None,
        });
    }

    fn accelerators(&mut self, reach: &Reach, many: bool) {
        let nearest = self.topology.nearest_of_all();
        for (gpu, nics) in nearest.into_iter().enumerate() {
            let nics = if many { nics } else { Vec::new() };
            let vertex = VertexSpec {
                name: self.name("gpu", gpu),
                kind: VertexKind::Accelerator,
                node: Some(self.node),
                forwards: (reach.complete && reach.through_others).then_some(true),
                nics: nics.into_iter().map(|nic| self.name("nic", nic)).collect(),
            };
            self.graph.vertices.push(vertex);
        }
    }

    fn nvlinks(&mut self, reach: &Reach, latency: SimDuration) {
        let gpus = &self.topology.gpus;
        let times = |sm: u32, count: u32| {
            Bandwidth::from_bytes_per_s(nvlink(sm).bytes_per_s().saturating_mul(count.into()))
        };
        for (a, counts) in reach.counts.iter().enumerate() {
            for (b, &count) in
                counts.iter().enumerate().skip(a + 1).filter(|(_, count)| **count > 0)
            {
                let bandwidth = times(gpus[a].sm, count).min(times(gpus[b].sm, count));
                self.link(self.name("gpu", a), self.name("gpu", b), bandwidth, latency);
            }
        }
        if gpus.iter().any(|gpu| gpu.switch_nvlinks > 0) {
            let switch = format!("node {}/nvswitch", self.node);
            self.vertex(switch.clone(), VertexKind::Switch, Some(self.node));
            for (place, gpu) in gpus.iter().enumerate().filter(|(_, gpu)| gpu.switch_nvlinks > 0) {
                let bandwidth = times(gpu.sm, gpu.switch_nvlinks);
                self.link(self.name("gpu", place), switch.clone(), bandwidth, half(latency));
            }
        }
    }

    fn pcie(&mut self, reach: &Reach, latency: SimDuration) {
        let NcclTopology { cpus, switches, gpus, .. } = self.topology;
        let node = Some(self.node);
        for (place, cpu) in cpus.iter().enumerate() {
            self.vertex(self.name("cpu", place), VertexKind::Host, node);
            for (other, before) in cpus[..place].iter().enumerate() {
                let bandwidth = cpu.to_others.min(before.to_others);
                self.link(
                    self.name("cpu", other),
                    self.name("cpu", place),
                    bandwidth,
                    SimDuration::ZERO,
                );
            }
        }
        for (place, switch) in switches.iter().enumerate() {
            let name = self.name("switch", place);
            self.vertex(name.clone(), VertexKind::Switch, node);
            self.link(name, self.parent(switch.parent), switch.link.bandwidth, SimDuration::ZERO);
        }
        for (place, gpu) in gpus.iter().enumerate() {
            let bandwidth = gpu.link.bandwidth;
            let mut from = self.name("gpu", place);
            let mut latency = half(latency);
            if reach.any {
                let slot = self.name("slot", place);
                self.vertex(slot.clone(), VertexKind::Switch, node);
                self.link(from, slot.clone(), bandwidth, latency);
                (from, latency) = (slot, SimDuration::ZERO);
            }
            self.link(from, self.parent(gpu.parent), bandwidth, latency);
        }
    }

    fn nics(&mut self, latencies: &Latencies) {
        let topology = self.topology;
        for ((place, nic), network) in topology.nics.iter().enumerate().zip(&latencies.network) {
            let name = self.name("nic", place);
            self.vertex(name.clone(), VertexKind::Nic, Some(self.node));
            let slot = nic.link.map_or(UNLIMITED, |link| link.bandwidth);
            self.link(name.clone(), self.parent(nic.parent), slot, SimDuration::ZERO);
            let rest = SimDuration::from_ps(network.as_ps() - latencies.pcie.as_ps());
            self.link(name, FABRIC.to_owned(), nic.bandwidth, half(rest));
        }
    }
}

fn half(latency: SimDuration) -> SimDuration {
    SimDuration::from_ps(latency.as_ps().div_ceil(2))
}

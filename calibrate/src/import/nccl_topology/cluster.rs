//! The `[cluster]` of a scenario with nodes like the one that NCCL saw.

use foretrain_sim::catalogue::Catalogue;
use foretrain_sim::network::Link;
use foretrain_sim::scenario::LinkName;
use foretrain_sim::scenario::spec::ClusterSpec;
use foretrain_sim::units::SimDuration;

use super::bandwidth::{known_nic, known_nvlink, known_pcie};
use super::write::{quoted, write};
use super::{ImportError, NcclTopology, Nic};

/// Accelerators of a cluster at most, as of generated networks.
const ACCELERATORS_MAX: u64 = 1 << 20;

/// What the file does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Nodes, all alike; 1 by default.
    pub nodes: u32,
    /// The accelerator's name in the catalogue; by default what its PCI device number says.
    pub accelerator: Option<String>,
    /// Of a message over NVLink; the catalogue's by default, if it has such NVLinks.
    pub nvlink_latency: Option<SimDuration>,
    /// Of a message between accelerators over PCIe; the catalogue's by default.
    pub pcie_latency: Option<SimDuration>,
    /// Of a message between nodes, from accelerator to accelerator; the catalogue's by default, if it
    /// has such an interface.
    pub network_latency: Option<SimDuration>,
    /// Whether to write every link, even where a regular description says the same.
    pub every_link: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            accelerator: None,
            nvlink_latency: None,
            pcie_latency: None,
            network_latency: None,
            every_link: false,
        }
    }
}

/// The machines of a scenario.
#[derive(Debug, Clone)]
pub struct ImportedCluster {
    /// As a scenario reads it.
    pub spec: ClusterSpec,
    /// As text: the section `[cluster]`, with comments that say where figures are from.
    pub toml: String,
    /// What is not represented, or was assumed.
    pub warnings: Vec<String>,
}

impl NcclTopology {
    /// The cluster of nodes like this one.
    ///
    /// Where NVLink joins all accelerators alike (by switches, each with each, or as in a DGX-1) and
    /// interfaces are shared out evenly, it is described by `node_topology` and two links, of which
    /// the one between nodes is no faster than PCIe lets it be. The number of accelerators may then be
    /// changed and swept. Otherwise the cluster is a graph of just these nodes: accelerators, PCIe
    /// switches, CPUs and interfaces, which one switch joins.
    ///
    /// # Errors
    /// If there are no nodes or more than a scenario can have, or several without interfaces; if a
    /// latency is not known and not given, or that of the network is below that of PCIe, which is part
    /// of it; if the accelerator's name is not in the catalogue.
    pub fn cluster(&self, options: &ClusterOptions) -> Result<ImportedCluster, ImportError> {
        let accelerators = u64::from(options.nodes) * self.gpus.len() as u64;
        if accelerators == 0 || accelerators > ACCELERATORS_MAX {
            let problem = format!(
                "{} nodes of {} accelerators: expected 1 to {ACCELERATORS_MAX} accelerators in all",
                options.nodes,
                self.gpus.len()
            );
            return Err(ImportError::new(problem));
        }
        if options.nodes > 1 && self.nics.is_empty() {
            let problem = "no network interface is in the file, so that nodes cannot be joined: \
                           write it by a job on several nodes";
            return Err(ImportError::new(problem));
        }
        let (used, mut warnings) = self.with_used_nics();
        let accelerator = used.accelerator(options, &mut warnings)?;
        if options.nodes > 1 {
            warnings.push(
                "the file does not say what is between nodes: one switch without limits but its \
                 ports is assumed"
                    .to_owned(),
            );
        }
        let spec = ClusterSpec {
            accelerators: Some(accelerators as u32),
            accelerator,
            accelerators_per_node: Some(used.gpus.len() as u32),
            ..ClusterSpec::default()
        };
        let mut comments = vec![
            "From NCCL's topology of a node. Bandwidths are those of NCCL's src/graph/topo.h and \
             topo.cc; latencies those of the catalogue, or as given."
                .to_owned(),
        ];
        let regular = if options.every_link {
            None
        } else {
            used.regular(options, &spec, &mut comments, &mut warnings)?
        };
        let spec = match regular {
            Some(spec) => spec,
            None => {
                let graph = used.graph(options, &mut warnings)?;
                graph.build().map_err(|error| ImportError::new(error.to_string()))?;
                ClusterSpec { graph: Some(graph), ..spec }
            }
        };
        let toml = write(&spec, &comments);
        Ok(ImportedCluster { spec, toml, warnings })
    }

    /// Only with the interfaces that some accelerator uses.
    fn with_used_nics(&self) -> (Self, Vec<String>) {
        let mut warnings = self.warnings.clone();
        let nearest = self.nearest_of_all();
        let is_used = |nic: usize| nearest.iter().any(|nics| nics.contains(&nic));
        let (used, unused): (Vec<usize>, Vec<usize>) =
            (0..self.nics.len()).partition(|&nic| is_used(nic));
        if !unused.is_empty() {
            let names: Vec<&str> = unused.iter().map(|&nic| self.nics[nic].name.as_str()).collect();
            warnings.push(format!("{}: nearest to no accelerator, and left out", names.join(", ")));
        }
        let nics = used.into_iter().map(|nic| self.nics[nic].clone()).collect();
        (Self { nics, ..self.clone() }, warnings)
    }

    fn accelerator(
        &self,
        options: &ClusterOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Option<String>, ImportError> {
        if let Some(name) = &options.accelerator {
            let catalogue = Catalogue::shipped();
            return match catalogue.accelerator(name) {
                Some(_) => Ok(Some(name.clone())),
                None => Err(ImportError::new(format!(
                    "there is no accelerator `{name}`, expected one of {}",
                    catalogue.accelerator_names().join(", ")
                ))),
            };
        }
        let name = self.gpus[0].name;
        if self.gpus.iter().any(|gpu| gpu.name != name) {
            let problem = "accelerators of several kinds: name the one to compute with";
            return Err(ImportError::new(problem));
        }
        if name.is_none() {
            let warning = "the accelerator's PCI device number is not known: name it as \
                           `accelerator`, or describe it in [accelerator]";
            warnings.push(warning.to_owned());
        }
        Ok(name.map(str::to_owned))
    }

    fn regular(
        &self,
        options: &ClusterOptions,
        spec: &ClusterSpec,
        comments: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<ClusterSpec>, ImportError> {
        let inside = self.inside();
        if inside.is_none() && self.gpus.len() > 1 {
            return Ok(None);
        }
        let outside = self.outside();
        if outside.is_none() && options.nodes > 1 {
            return Ok(None);
        }
        let mut spec = spec.clone();
        if let Some(inside) = inside {
            let latency = self.nvlink_latency(options)?;
            let link = Link { latency, bandwidth: inside.bandwidth };
            spec.intra_node_link = Some(LinkName::Given(link));
            spec.node_topology = Some(inside.topology);
            let switched = self.gpus[0].switch_nvlinks > 0;
            let name =
                known_nvlink(inside.sm, switched, Some(inside.nvlinks)).map(|(name, _)| name);
            comments.push(format!(
                "intra_node_link: {} NVLinks of an accelerator{}.",
                inside.nvlinks,
                name.map_or_else(String::new, |name| format!(
                    "; the catalogue's {} is the data sheet's, and what allreduce.algorithm = \
                     \"nccl\" needs",
                    quoted(name)
                ))
            ));
        }
        let Some((bandwidth, nic)) = outside else { return Ok(Some(spec)) };
        let latency = match network_latency(nic, options) {
            Ok(latency) => latency,
            // A single node works without.
            Err(error) if options.nodes == 1 => {
                warnings.push(format!("no inter_node_link: {error}"));
                return Ok(Some(spec));
            }
            Err(error) => return Err(error),
        };
        spec.inter_node_link = Some(LinkName::Given(Link { latency, bandwidth }));
        spec.nics_per_node = Some(self.nics.len() as u32);
        comments.push(format!(
            "inter_node_link: an interface of {}{}.",
            nic.bandwidth,
            if bandwidth < nic.bandwidth { ", as far as PCIe carries it" } else { "" }
        ));
        Ok(Some(spec))
    }

    pub(super) fn nvlink_latency(
        &self,
        options: &ClusterOptions,
    ) -> Result<SimDuration, ImportError> {
        let sm = self.gpus[0].sm;
        let known = || known_nvlink(sm, false, None).map(|(_, latency)| latency);
        options.nvlink_latency.or_else(known).ok_or_else(|| {
            unknown_latency(
                &format!("NVLinks of compute capability {}.{}", sm / 10, sm % 10),
                "NVLink",
            )
        })
    }

    pub(super) fn pcie_latency(
        &self,
        options: &ClusterOptions,
    ) -> Result<SimDuration, ImportError> {
        if let Some(latency) = options.pcie_latency {
            return Ok(latency);
        }
        let of_gpu = self.gpus.iter().map(|gpu| {
            let (rate, lanes) = (gpu.link.giga_transfers_per_s, gpu.link.lanes);
            let known = known_pcie(rate, lanes).map(|(_, latency)| latency);
            known.ok_or_else(|| unknown_latency(&format!("PCIe of {rate} GT/s x {lanes}"), "PCIe"))
        });
        Ok(of_gpu.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(SimDuration::ZERO))
    }
}

/// From accelerator to accelerator of two nodes.
pub(super) fn network_latency(
    nic: &Nic,
    options: &ClusterOptions,
) -> Result<SimDuration, ImportError> {
    let known =
        || known_nic(nic.bandwidth, nic.is_infiniband, &nic.name).map(|(_, latency)| latency);
    let latency = options.network_latency.or_else(known).ok_or_else(|| {
        unknown_latency(
            &format!("an interface like {}, of {},", nic.name, nic.bandwidth),
            "the network",
        )
    })?;
    Ok(latency.saturating_add(nic.latency))
}

fn unknown_latency(what: &str, of: &str) -> ImportError {
    let problem = format!(
        "no latency of {what} is in the catalogue, and the file has none: give that of {of}"
    );
    ImportError::new(problem)
}

//! The machines of a published run, as a scenario has them.

use foretrain_sim::catalogue::{Accelerator, Catalogue, LinkKind};
use foretrain_sim::collective::AlgorithmName;
use foretrain_sim::network::Link;
use foretrain_sim::scenario::LinkName;
use foretrain_sim::scenario::spec::{AllReduceSpec, ClusterSpec, ScenarioSpec};
use foretrain_sim::units::{Bandwidth, Bytes, SimDuration};

use super::table::{Cells, Problem};

/// Where no latency of a link is documented, that which NCCL has for networks (`hwLat[NET][Ring]
/// [Simple]`, 14 us) and for links inside nodes (NVLink's 3.4 us).
const NETWORK_LATENCY_NS: u64 = 14_000;
const INTRA_NODE_LATENCY_NS: u64 = 3_400;
/// More than any run needs: published runs fitted into the memory they had.
const ENOUGH_MEMORY_GIB: u64 = 4096;

/// The machines of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct System {
    /// The accelerator as the row names it.
    pub accelerator: String,
    /// Accelerators in all.
    pub accelerators: u32,
    /// Accelerators of a node; all where there are no nodes.
    pub accelerators_per_node: u32,
    /// The link inside nodes as the row names it.
    pub intra_node_link: String,
    /// GB/s (1e9 bytes), one way, of one accelerator.
    pub intra_node_gbyte_per_s: Option<f64>,
    /// Network interfaces of a node.
    pub nics_per_node: Option<u32>,
    /// Gbit/s of an interface.
    pub nic_gbit_per_s: Option<f64>,
    /// What kind of network it is.
    pub fabric: String,
    /// What of the row was not taken as it stands.
    pub notes: Vec<String>,
}

impl System {
    /// The columns that are read.
    pub const COLUMNS: [&'static str; 9] = [
        "accelerator",
        "accelerators",
        "accelerators_per_node",
        "nodes",
        "intra_node_link",
        "intra_node_gbyte_per_s_per_accelerator_one_way",
        "nics_per_node",
        "nic_gbit_per_s",
        "fabric",
    ];

    /// Reads the machines of a row.
    ///
    /// # Errors
    /// A cell is not what its column needs.
    pub fn read(cells: &Cells<'_>) -> Result<Self, Problem> {
        let accelerators = cells
            .count("accelerators")?
            .ok_or_else(|| cells.wrong("accelerators", "a whole number above 0"))?;
        let nodes = cells.count("nodes")?;
        let per_node = cells.count("accelerators_per_node")?;
        let lower = |column: &str| cells.text(column).to_ascii_lowercase();
        let fabric = lower("fabric");
        let mut notes = Vec::new();
        let per_node = match (per_node, nodes) {
            // Chips of a torus are joined all alike, whatever host they belong to.
            _ if fabric.starts_with("ici") => accelerators,
            (Some(per_node), Some(nodes)) if accelerators.div_ceil(per_node) != nodes => {
                let each = accelerators.div_ceil(nodes);
                notes.push(format!(
                    "{accelerators} accelerators on {nodes} nodes are {each} a node, not {per_node}"
                ));
                each
            }
            (Some(per_node), _) => per_node,
            (None, Some(nodes)) => accelerators.div_ceil(nodes),
            (None, None) => accelerators,
        };
        Ok(Self {
            accelerator: cells.named("accelerator")?.to_ascii_lowercase(),
            accelerators,
            accelerators_per_node: per_node,
            intra_node_link: lower("intra_node_link"),
            intra_node_gbyte_per_s: cells
                .quantity("intra_node_gbyte_per_s_per_accelerator_one_way")?,
            nics_per_node: cells.count("nics_per_node")?,
            nic_gbit_per_s: cells.quantity("nic_gbit_per_s")?,
            fabric,
            notes,
        })
    }

    /// The accelerator in the catalogue.
    #[must_use]
    pub fn known(&self) -> Option<&'static Accelerator> {
        Catalogue::shipped().accelerator(&self.accelerator)
    }

    /// Whether the accelerator is of NVIDIA, whose libraries then sum gradients.
    #[must_use]
    pub fn is_nvidia(&self) -> bool {
        match self.known() {
            Some(accelerator) => accelerator.compute_capability.is_some(),
            None => self.intra_node_link.starts_with("nvlink") || is_nvidia_name(&self.accelerator),
        }
    }

    /// Writes the machines into `spec`, and the way gradients are summed on them; returns what a
    /// reader should know about the choices.
    ///
    /// # Errors
    /// Something is missing without which nothing can be said.
    pub fn describe(&self, spec: &mut ScenarioSpec) -> Result<Vec<String>, String> {
        let mut notes = self.notes.clone();
        spec.cluster = ClusterSpec {
            accelerators: Some(self.accelerators),
            accelerators_per_node: Some(self.accelerators_per_node),
            nics_per_node: self.nics_per_node,
            ..ClusterSpec::default()
        };
        spec.accelerator.memory = Some(Bytes::new(ENOUGH_MEMORY_GIB << 30));
        let stand_in = self.stand_in();
        spec.cluster.accelerator = Some(stand_in.name.clone());
        let why = match self.known() {
            None => Some("is not in the catalogue"),
            Some(known) if known.matrix_rates.is_empty() => Some("has no published peak rate"),
            Some(_) => None,
        };
        if let Some(why) = why {
            notes.push(format!(
                "{} {why}: layers are in proportion as on {}",
                self.accelerator, stand_in.title
            ));
        }
        spec.cluster.intra_node_link = self.intra_link(&mut notes);
        spec.cluster.inter_node_link = self.inter_link(&mut notes)?;
        spec.allreduce = self.all_reduce();
        Ok(notes)
    }

    /// The accelerator, or for one that the catalogue lacks, or has no rates of, another, whose
    /// layers are taken to be in the same proportion. (How fast it is comes from the anchor.)
    #[must_use]
    pub fn stand_in(&self) -> &'static Accelerator {
        let catalogue = Catalogue::shipped();
        let name = if self.is_nvidia() { "h100-sxm5-80gb" } else { "tpu-v3-chip" };
        #[expect(clippy::expect_used, reason = "a test looks both up")]
        self.known()
            .filter(|known| !known.matrix_rates.is_empty())
            .or_else(|| catalogue.accelerator(name))
            .expect("the catalogue has the stand-ins")
    }

    fn intra_link(&self, notes: &mut Vec<String>) -> Option<LinkName> {
        if self.accelerators_per_node == 1 || self.accelerators == 1 {
            return None;
        }
        let found = Catalogue::shipped()
            .link(&self.intra_node_link)
            .filter(|link| link.kind == LinkKind::IntraNode);
        let fits = |rate: Bandwidth| {
            let gbyte_per_s = rate.bytes_per_s() as f64 / 1e9;
            self.intra_node_gbyte_per_s.is_none_or(|given| (given / gbyte_per_s - 1.0).abs() < 0.05)
        };
        if let Some(link) = found.filter(|link| fits(link.line_rate) && link.latency.is_some()) {
            return Some(LinkName::Named(link.name.clone()));
        }
        let rate = match (self.intra_node_gbyte_per_s, found) {
            (Some(given), _) => bandwidth(given * 1e9),
            (None, Some(link)) => link.bandwidth,
            (None, None) => {
                let name = &self.intra_node_link;
                notes.push(format!("intra_node_link `{name}` has no known bandwidth: PCIe 4.0's"));
                return Some(LinkName::Named("pcie4-x16".to_owned()));
            }
        };
        let latency = SimDuration::from_ps(INTRA_NODE_LATENCY_NS * 1000);
        notes.push(format!("no latency of {} is documented: NVLink's", self.intra_node_link));
        Some(LinkName::Given(Link { latency, bandwidth: rate }))
    }

    fn inter_link(&self, notes: &mut Vec<String>) -> Result<Option<LinkName>, String> {
        if self.accelerators <= self.accelerators_per_node {
            return Ok(None);
        }
        let rate = self.nic_gbit_per_s.ok_or("nic_gbit_per_s: not given for several nodes")?;
        let kind = self.fabric.split([' ', '-', '(']).next().unwrap_or_default();
        let name = match (kind, rate as u32) {
            ("infiniband", 56) => "infiniband-fdr",
            ("infiniband", 100) => "infiniband-edr",
            ("infiniband", 200) => "infiniband-hdr",
            ("infiniband", 400) => "infiniband-ndr",
            ("roce", 100) => "roce-100g",
            ("ethernet", 10) => "ethernet-10g",
            ("ethernet", 25) => "ethernet-25g",
            ("ethernet", 50) => "ethernet-50g",
            ("ethernet" | "efa", 100) => "ethernet-100g",
            _ => "",
        };
        if Catalogue::shipped().link(name).is_some() {
            return Ok(Some(LinkName::Named(name.to_owned())));
        }
        let latency = SimDuration::from_ps(NETWORK_LATENCY_NS * 1000);
        notes.push(format!("{rate} Gbit/s of {}: line rate, NCCL's latency", self.fabric));
        Ok(Some(LinkName::Given(Link { latency, bandwidth: bandwidth(rate * 1e9 / 8.0) })))
    }

    /// How gradients are summed: by NCCL where it runs, along rows and columns of a torus of chips
    /// without nodes, and elsewhere inside nodes first.
    fn all_reduce(&self) -> AllReduceSpec {
        let (n, per_node) = (self.accelerators, self.accelerators_per_node);
        let full_nodes = n.is_multiple_of(per_node.min(n));
        let by_name = |name: &str| Catalogue::shipped().link(name).is_some();
        if self.is_nvidia() && full_nodes && by_name(&self.intra_node_link) {
            return AllReduceSpec {
                algorithm: Some(AlgorithmName::Nccl),
                ..AllReduceSpec::default()
            };
        }
        let group = if n > per_node && full_nodes { per_node } else { side(n) };
        if group > 1 && n.is_multiple_of(group) && n > group {
            return AllReduceSpec {
                algorithm: Some(AlgorithmName::Torus),
                group: Some(group),
                ..AllReduceSpec::default()
            };
        }
        AllReduceSpec { algorithm: Some(AlgorithmName::Ring), ..AllReduceSpec::default() }
    }
}

/// Whether a name is of NVIDIA's: a letter of an architecture and a number, such as `gh200` or `l40s`.
fn is_nvidia_name(name: &str) -> bool {
    let name = name.strip_prefix("nvidia-").unwrap_or(name);
    let name = name.strip_prefix("tesla-").unwrap_or(name);
    let name = name.strip_prefix('g').unwrap_or(name);
    let mut letters = name.chars();
    letters.next().is_some_and(|first| "kmptvablhr".contains(first))
        && letters.next().is_some_and(|second| second.is_ascii_digit())
}

/// The longest side of the squarest torus of `n`.
fn side(n: u32) -> u32 {
    (1..=n.isqrt()).rev().find(|side| n.is_multiple_of(*side)).map_or(1, |side| n / side)
}

fn bandwidth(bytes_per_s: f64) -> Bandwidth {
    Bandwidth::from_bytes_per_s(bytes_per_s.round().max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_of_nvidia_are_known_by_their_names() {
        for (name, by_nvidia) in [
            ("t4", true),
            ("l40s", true),
            ("gh200-480gb", true),
            ("nvidia-a100x", true),
            ("mi300x", false),
            ("tpu-v4-chip", false),
            ("ipu-mk2", false),
            ("ascend-910", false),
            ("gaudi2", false),
        ] {
            assert_eq!(is_nvidia_name(name), by_nvidia, "{name}");
        }
    }

    #[test]
    fn a_torus_is_as_square_as_it_can_be() {
        assert_eq!([16, 64, 128, 2048, 7, 1].map(side), [4, 8, 16, 64, 7, 1]);
    }
}

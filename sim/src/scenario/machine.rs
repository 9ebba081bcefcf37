//! The machines of a point: its accelerator and its links, from the catalogue or as given.

use super::names::LinkName;
use super::problem::{Problem, at_least_one, unknown};
use super::profiled;
use super::spec::{AcceleratorSpec, ClusterSpec, ScenarioSpec};
use crate::catalogue::{Accelerator, Catalogue, LinkKind, LinkType, NodeType};
use crate::collective::RANKS_MAX;
use crate::network::{Link, LinkCurve};
use crate::profile::{LinkProfile, Profile};

pub(super) const NODE_EXAMPLE: &str = "or name a node that has it: cluster.node = \"dgx-1-v100\"";

/// A value and where it is from, for the forecast to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSource {
    /// What it is, such as `inter-node link`.
    pub what: &'static str,
    /// Its value.
    pub value: String,
    /// Where it is from.
    pub from: String,
}

/// A link by name or as given, and where it is from.
pub(super) fn link(
    key: &str,
    name: &LinkName,
    kind: Option<LinkKind>,
) -> Result<(Link, InputSource), Problem> {
    let catalogue = Catalogue::shipped();
    let what = match kind {
        Some(LinkKind::IntraNode) => "intra-node link",
        Some(LinkKind::InterNode) => "inter-node link",
        None => "host link",
    };
    let name = match name {
        LinkName::Given(link) => {
            let from = "scenario".to_owned();
            return Ok((*link, InputSource { what, value: link.to_string(), from }));
        }
        LinkName::Named(name) => name,
    };
    let found = catalogue.link(name).ok_or_else(|| {
        let names = catalogue.link_names();
        let problem = format!(
            "{}; or bandwidth and latency, such as \"100 Gbit/s, 5 us\"",
            unknown("link", name, &names)
        );
        Problem::new(key, problem)
    })?;
    let latency = found.latency.ok_or_else(|| {
        let problem = format!(
            "no latency of {} is documented; give it: \"{}, 5 us\"",
            found.title, found.bandwidth
        );
        Problem::new(key, problem)
    })?;
    let link = Link { latency, bandwidth: found.bandwidth };
    let from = match &found.latency_source {
        Some(latency) => format!("{}; latency: {latency}", found.source),
        None => found.source.clone(),
    };
    Ok((link, InputSource { what, value: format!("{} ({link})", found.title), from }))
}

/// The accelerators and links of a point's nodes.
pub(super) struct Machine {
    pub(super) node: Option<&'static NodeType>,
    pub(super) accelerator: Accelerator,
    pub(super) accelerators_per_node: u32,
    pub(super) sources: Vec<InputSource>,
    pub(super) nics: u32,
    pub(super) cluster: ClusterSpec,
    pub(super) intra_node: Option<Link>,
    pub(super) inter_node: Option<Link>,
    /// What messages take inside nodes and between them, where a profile says so.
    pub(super) measured_intra_node: Option<LinkCurve>,
    pub(super) measured_inter_node: Option<LinkCurve>,
    /// What the catalogue says of these links, where they are named.
    pub(super) intra_node_type: Option<&'static LinkType>,
    pub(super) inter_node_type: Option<&'static LinkType>,
}

impl Machine {
    pub(super) fn new(spec: &ScenarioSpec, profile: Option<&Profile>) -> Result<Self, Problem> {
        let catalogue = Catalogue::shipped();
        let cluster = &spec.cluster;
        let node = match &cluster.node {
            Some(name) => Some(catalogue.node(name).ok_or_else(|| {
                Problem::new("cluster.node", unknown("node", name, &catalogue.node_names()))
            })?),
            None => None,
        };
        let accelerator = accelerator(spec, node, profile)?;
        let accelerators_per_node = cluster
            .accelerators_per_node
            .or(node.map(|node| node.accelerators))
            .or(profile.map(|profile| profile.machine.ranks_per_node))
            .ok_or_else(|| {
                let problem = format!("missing: give it, {NODE_EXAMPLE}");
                Problem::new("cluster.accelerators_per_node", problem)
            })?;
        let accelerators_per_node =
            at_least_one("cluster.accelerators_per_node", accelerators_per_node)?;
        if accelerators_per_node > RANKS_MAX {
            let problem = format!("{accelerators_per_node}, expected at most {RANKS_MAX}");
            return Err(Problem::new("cluster.accelerators_per_node", problem));
        }
        let mut sources = vec![InputSource {
            what: "accelerator",
            value: accelerator.title.clone(),
            from: accelerator.source.clone(),
        }];
        sources.extend(
            corrections(&spec.accelerator).into_iter().map(|(what, value)| InputSource {
                what,
                value,
                from: "scenario".to_owned(),
            }),
        );
        let (measured_intra_node, measured_inter_node) =
            measured_links(cluster, profile, &mut sources);
        let mut resolve = |given: &Option<LinkName>, named: Option<&String>, key, kind| {
            let named = named.cloned().map(LinkName::Named);
            let measured = match kind {
                LinkKind::IntraNode => measured_intra_node.is_some(),
                LinkKind::InterNode => measured_inter_node.is_some(),
            };
            let Some(name) = given.clone().or(named.filter(|_| !measured)) else {
                return Ok(None);
            };
            let (link, source) = link(key, &name, Some(kind))?;
            sources.push(source);
            Ok(Some(link))
        };
        let intra_node = resolve(
            &cluster.intra_node_link,
            node.and_then(|node| node.intra_node_link.as_ref()),
            "cluster.intra_node_link",
            LinkKind::IntraNode,
        )?;
        let inter_node = resolve(
            &cluster.inter_node_link,
            node.and_then(|node| node.nic.as_ref()),
            "cluster.inter_node_link",
            LinkKind::InterNode,
        )?;
        let nics = cluster.nics_per_node.or(node.map(|node| node.nics)).unwrap_or(1);
        let nics = at_least_one("cluster.nics_per_node", nics)?;
        if let Some(source) = sources.last_mut()
            && inter_node.is_some()
            && nics > 1
        {
            source.value = format!("{nics} x {}", source.value);
        }
        Ok(Self {
            node,
            accelerator,
            accelerators_per_node,
            sources,
            nics,
            intra_node,
            inter_node,
            measured_intra_node,
            measured_inter_node,
            intra_node_type: link_type(
                &cluster.intra_node_link,
                node.and_then(|node| node.intra_node_link.as_deref()),
            ),
            inter_node_type: link_type(
                &cluster.inter_node_link,
                node.and_then(|node| node.nic.as_deref()),
            ),
            cluster: cluster.clone(),
        })
    }
}

/// The links that a profile measured and the scenario does not give, and where they are from.
fn measured_links(
    cluster: &ClusterSpec,
    profile: Option<&Profile>,
    sources: &mut Vec<InputSource>,
) -> (Option<LinkCurve>, Option<LinkCurve>) {
    let Some(profile) = profile else { return (None, None) };
    let mut measured = |given: &Option<LinkName>, link: &Option<LinkProfile>, what| {
        let link = link.as_ref().filter(|_| given.is_none())?;
        let curve = link.curve()?;
        let ranges = curve.ranges();
        let mut value = ranges.iter().map(|(from, link)| match from.get() {
            0 => link.to_string(),
            _ => format!("{link} from {from}"),
        });
        let value = value.by_ref().collect::<Vec<_>>().join("; ");
        sources.push(InputSource { what, value, from: "profile".to_owned() });
        Some(curve)
    };
    let links = &profile.links;
    (
        measured(&cluster.intra_node_link, &links.intra_node, "intra-node link"),
        measured(&cluster.inter_node_link, &links.inter_node, "inter-node link"),
    )
}

/// What the catalogue says of a link, if it is named.
fn link_type(given: &Option<LinkName>, of_node: Option<&str>) -> Option<&'static LinkType> {
    let name = match given {
        Some(LinkName::Named(name)) => Some(name.as_str()),
        Some(LinkName::Given(_)) => None,
        None => of_node,
    };
    Catalogue::shipped().link(name?)
}

fn accelerator(
    spec: &ScenarioSpec,
    node: Option<&NodeType>,
    profile: Option<&Profile>,
) -> Result<Accelerator, Problem> {
    let catalogue = Catalogue::shipped();
    let name = spec.cluster.accelerator.as_deref().or(node.map(|node| node.accelerator.as_str()));
    let known = match name {
        Some(name) => Some(catalogue.accelerator(name).ok_or_else(|| {
            let problem = unknown("accelerator", name, &catalogue.accelerator_names());
            let problem = format!("{problem}; or describe it in [accelerator]");
            Problem::new("cluster.accelerator", problem)
        })?),
        None => None,
    };
    let given = &spec.accelerator;
    let mut accelerator = match known {
        Some(known) => known.clone(),
        None => match profile.filter(|profile| profile.compute.is_some()) {
            Some(profile) => profiled::accelerator(profile),
            None => described(given)?,
        },
    };
    if let Some(rate) = given.matrix_rate {
        // The rate is meant for the precision of this training, whichever that is.
        for precision in ["fp32", "tf32", "fp16", "bf16"] {
            accelerator.matrix_rates.insert(precision.to_owned(), rate);
        }
    }
    accelerator.compute_units = given.compute_units.unwrap_or(accelerator.compute_units).max(1);
    accelerator.vector_rate = given.vector_rate.or(accelerator.vector_rate);
    accelerator.memory = given.memory.unwrap_or(accelerator.memory);
    accelerator.memory_bandwidth = given.memory_bandwidth.unwrap_or(accelerator.memory_bandwidth);
    accelerator.board_power = given.board_power.unwrap_or(accelerator.board_power);
    if let Some(title) = &given.title {
        accelerator.title.clone_from(title);
        "scenario".clone_into(&mut accelerator.source);
    }
    Ok(accelerator)
}

/// What the scenario says of the accelerator, in place of its datasheet.
fn corrections(given: &AcceleratorSpec) -> Vec<(&'static str, String)> {
    let values = [
        ("compute units", given.compute_units.map(|v| v.to_string())),
        ("matrix rate", given.matrix_rate.map(|v| v.to_string())),
        ("vector rate", given.vector_rate.map(|v| v.to_string())),
        ("memory", given.memory.map(|v| v.to_string())),
        ("memory bandwidth", given.memory_bandwidth.map(|v| v.to_string())),
        ("board power", given.board_power.map(|v| v.to_string())),
    ];
    values.into_iter().filter_map(|(what, value)| Some((what, value?))).collect()
}

/// An accelerator that only the scenario knows.
fn described(given: &AcceleratorSpec) -> Result<Accelerator, Problem> {
    let missing = |key: &str, example: &str| {
        let problem = format!("missing: give it, such as {example}, {NODE_EXAMPLE}");
        Problem::new(&format!("accelerator.{key}"), problem)
    };
    if given.title.is_none() && given.memory.is_none() && given.compute_units.is_none() {
        let problem = format!("missing: name an accelerator, {NODE_EXAMPLE}");
        return Err(Problem::new("cluster.accelerator", problem));
    }
    Ok(Accelerator {
        name: "given".to_owned(),
        title: given.title.clone().unwrap_or_else(|| "accelerator of the scenario".to_owned()),
        aliases: Vec::new(),
        year: 0,
        compute_units: given.compute_units.ok_or_else(|| missing("compute_units", "108"))?,
        compute_capability: None,
        matrix_rates: std::collections::BTreeMap::new(),
        vector_rate: None,
        memory: given.memory.ok_or_else(|| missing("memory", "\"40 GiB\""))?,
        memory_bandwidth: given
            .memory_bandwidth
            .ok_or_else(|| missing("memory_bandwidth", "\"1555 GB/s\""))?,
        board_power: given.board_power.ok_or_else(|| missing("board_power", "\"400 W\""))?,
        host_link: None,
        price_per_hour: None,
        price_source: None,
        price_date: None,
        source: "scenario".to_owned(),
        note: None,
    })
}

//! A cluster as the text of a scenario.

use std::fmt::Write;

use foretrain_sim::network::{GraphSpec, NodeTopology, VertexKind};
use foretrain_sim::scenario::spec::ClusterSpec;

/// The section `[cluster]`, with the keys that [`super::NcclTopology::cluster`] sets.
pub(super) fn write(spec: &ClusterSpec, comments: &[String]) -> String {
    let mut text = comments.iter().map(|comment| format!("# {comment}\n")).collect::<String>();
    text += "[cluster]\n";
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let string = |value: Option<String>| value.map(|value| quoted(&value));
    let values = [
        ("accelerators", number(spec.accelerators)),
        ("accelerator", string(spec.accelerator.clone())),
        ("accelerators_per_node", number(spec.accelerators_per_node)),
        ("node_topology", spec.node_topology.map(node_topology)),
        ("intra_node_link", string(spec.intra_node_link.as_ref().map(ToString::to_string))),
        ("nics_per_node", number(spec.nics_per_node)),
        ("inter_node_link", string(spec.inter_node_link.as_ref().map(ToString::to_string))),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            text += &format!("{key} = {value}\n");
        }
    }
    if let Some(graph) = &spec.graph {
        write_graph(graph, &mut text);
    }
    text
}

fn node_topology(topology: NodeTopology) -> String {
    match topology {
        NodeTopology::HybridCubeMesh { nvlinks: Some(nvlinks) } => {
            format!("{{ kind = \"hybrid-cube-mesh\", nvlinks = {nvlinks} }}")
        }
        NodeTopology::HybridCubeMesh { nvlinks: None } => "{ kind = \"hybrid-cube-mesh\" }".into(),
        NodeTopology::Mesh {} => "{ kind = \"mesh\" }".into(),
        NodeTopology::Switch {} => "{ kind = \"switch\" }".into(),
        NodeTopology::PcieTree { .. } => "{ kind = \"pcie-tree\" }".into(),
    }
}

fn write_graph(graph: &GraphSpec, text: &mut String) {
    *text += "\n[cluster.graph]\nvertices = [\n";
    for vertex in &graph.vertices {
        let kind = match vertex.kind {
            VertexKind::Accelerator => "accelerator",
            VertexKind::Nic => "nic",
            VertexKind::Switch => "switch",
            VertexKind::Host => "host",
        };
        let mut line = format!("  {{ name = {}, kind = \"{kind}\"", quoted(&vertex.name));
        if let Some(node) = vertex.node {
            line += &format!(", node = {node}");
        }
        if let Some(forwards) = vertex.forwards {
            line += &format!(", forwards = {forwards}");
        }
        if !vertex.nics.is_empty() {
            let nics: Vec<String> = vertex.nics.iter().map(|nic| quoted(nic)).collect();
            line += &format!(", nics = [{}]", nics.join(", "));
        }
        *text += &(line + " },\n");
    }
    *text += "]\nlinks = [\n";
    for link in &graph.links {
        let (from, to) = (quoted(&link.from), quoted(&link.to));
        let mut line = format!("  {{ from = {from}, to = {to}, bandwidth = \"{}\"", link.bandwidth);
        if let Some(latency) = link.latency {
            line += &format!(", latency = \"{latency}\"");
        }
        *text += &(line + " },\n");
    }
    *text += "]\n";
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

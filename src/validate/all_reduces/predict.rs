//! The time of a published all-reduce, predicted from data sheets: [`predict`] is all that the rest
//! of the command knows of it.

use foretrain_sim::catalogue::{Catalogue, ComputeCapability, LinkKind, LinkType};
use foretrain_sim::collective::Operation;
use foretrain_sim::collective::nccl::{
    HostCpu, NcclAlgorithm, NcclIntraNode, NcclMachine, NcclNetwork, NcclSpec, NcclVersion,
    Protocol,
};
use foretrain_sim::units::{Bandwidth, Bytes, SimDuration};

use super::rows::Row;

/// What predicts, for reports.
pub(super) const PREDICTOR: &str = "NCCL's cost model, from data sheets";

/// A predicted all-reduce.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prediction {
    pub(super) time_us: f64,
    pub(super) algorithm: NcclAlgorithm,
    pub(super) protocol: Protocol,
    pub(super) nccl_version: NcclVersion,
}

/// Predicts a row's time from its machine and its size, never from its time.
///
/// The accelerator and the link are looked up in the catalogue. Where `software` names one
/// algorithm, that one is taken, else NCCL's own choice; where it names a version, the constants
/// of the newest known version up to it, else those of the oldest that knows the accelerator.
///
/// # Errors
/// With the reason why the row cannot be predicted.
pub(super) fn predict(row: &Row) -> Result<Prediction, String> {
    let spec = spec(row)?;
    let machine = machine(row, spec)?;
    let only = named_algorithm(&row.software);
    let bytes = Bytes::new(row.message_bytes);
    let chosen = machine.choose(Operation::AllReduce, bytes, only).ok_or_else(|| {
        let name = only.map(|only| only.to_string()).unwrap_or_default();
        format!("software: NCCL {} does not use {name} there", machine.spec().version)
    })?;
    Ok(Prediction {
        time_us: chosen.time.as_us(),
        algorithm: chosen.algorithm,
        protocol: chosen.protocol,
        nccl_version: machine.spec().version,
    })
}

/// The machine with the version that the row names, or the oldest that knows the accelerator.
fn machine(row: &Row, spec: NcclSpec) -> Result<NcclMachine, String> {
    if let Some(version) = named_version(&row.software) {
        return NcclMachine::new(NcclSpec { version, ..spec }).map_err(|error| error.to_string());
    }
    NcclMachine::with_oldest(spec).map_err(|error| error.to_string())
}

fn spec(row: &Row) -> Result<NcclSpec, String> {
    let ranks = row.accelerators.ok_or("accelerators: not given")?;
    let nodes = row.nodes.ok_or("nodes: not given")?;
    if !ranks.is_multiple_of(nodes) {
        return Err(format!(
            "accelerators: {ranks} are not the same number on each of {nodes} nodes"
        ));
    }
    let name = named(&row.accelerator, "accelerator")?;
    let accelerator = Catalogue::shipped()
        .accelerator(name)
        .ok_or_else(|| format!("accelerator: `{name}` is not in the catalogue"))?;
    let compute_capability = accelerator
        .compute_capability
        .ok_or_else(|| format!("accelerator: NCCL does not run on {name}"))?;
    let network = if nodes > 1 { Some(network(row, compute_capability)?) } else { None };
    Ok(NcclSpec {
        version: NcclVersion::ALL[0],
        nodes,
        ranks_per_node: ranks / nodes,
        compute_capability,
        intra_node: intra_node(row)?,
        network,
    })
}

fn named<'a>(name: &'a str, column: &str) -> Result<&'a str, String> {
    if name.is_empty() { Err(format!("{column}: not given")) } else { Ok(name) }
}

fn intra_node(row: &Row) -> Result<NcclIntraNode, String> {
    let name = named(&row.intra_node_link, "intra_node_link")?;
    let link = Catalogue::shipped()
        .link(name)
        .filter(|link| link.kind == LinkKind::IntraNode)
        .ok_or_else(|| format!("intra_node_link: `{name}` is not in the catalogue"))?;
    let &LinkType { line_rate, nvlink, .. } = link;
    let rate = line_rate.bytes_per_s() as f64 / 1e9;
    if let Some(given) = row.intra_node_gbyte_per_s.filter(|given| (given - rate).abs() > 0.5) {
        return Err(format!("intra_node_link: {given} GB/s, but {name} has {rate} GB/s"));
    }
    match nvlink {
        Some(nvlink) => Ok(NcclIntraNode::Nvlink(nvlink)),
        None if name.starts_with("pcie") => Ok(NcclIntraNode::Pcie(line_rate)),
        None => Err(format!("intra_node_link: NCCL does not know {name}")),
    }
}

/// Interfaces by their line rate. What no data sheet says is left at NCCL's own defaults: hosts by
/// Intel, and no latency beside that of the model.
fn network(row: &Row, capability: ComputeCapability) -> Result<NcclNetwork, String> {
    let rate = row.nic_gbit_per_s.ok_or("nic_gbit_per_s: not given")?;
    // EFA delivers out of order, which its plug-in for NCCL answers with Simple alone before P5,
    // the instances with Hopper: https://github.com/aws/aws-ofi-nccl, issue 76, pull request 280.
    let simple_only = row.fabric == "efa" && capability < ComputeCapability::HOPPER;
    Ok(NcclNetwork {
        nics_per_node: row.nics_per_node.ok_or("nics_per_node: not given")?,
        nic_bandwidth: Bandwidth::from_bytes_per_s((rate * 1e9 / 8.0).round() as u64),
        host_cpu: HostCpu::Intel,
        latency: SimDuration::ZERO,
        simple_only,
    })
}

/// The words of a `software` cell; an environment variable is one.
fn words(software: &str) -> impl Iterator<Item = &str> {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '=');
    software.split(move |c| !inside(c)).filter(|word| !word.is_empty())
}

/// The algorithm that `software` names; none where it names several, each for some sizes.
fn named_algorithm(software: &str) -> Option<NcclAlgorithm> {
    let mut named: Vec<NcclAlgorithm> = words(software)
        .filter_map(|word| match word.to_ascii_lowercase().as_str() {
            "ring" => Some(NcclAlgorithm::Ring),
            "tree" => Some(NcclAlgorithm::Tree),
            "nvls" => Some(NcclAlgorithm::Nvls),
            "nvlstree" => Some(NcclAlgorithm::NvlsTree),
            _ => None,
        })
        .collect();
    named.dedup();
    match named.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

/// The version in `NCCL 2.27.7`.
fn named_version(software: &str) -> Option<NcclVersion> {
    let mut words = words(software).skip_while(|word| !word.eq_ignore_ascii_case("nccl"));
    words.nth(1).and_then(|release| release.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{file, rows};
    use super::*;

    fn predicted(row: &str) -> Result<Prediction, String> {
        predict(&rows(&file(row)).unwrap()[0])
    }

    /// `A100-like` cells after id and set, with another part in place of one.
    fn changed(from: &str, to: &str) -> Result<Prediction, String> {
        let row = "A,s,a100-sxm4-80gb,8,1,nvlink3-nvswitch,300,,,,NCCL default,1073741824,1";
        assert!(row.contains(from));
        predicted(&row.replacen(from, to, 1))
    }

    #[test]
    fn a_row_takes_what_nccl_would_choose() {
        // Ring Simple: 56 us, and 1 GiB at 240 GB/s × 8/14.
        let found = changed("A", "A").unwrap();
        assert_eq!((found.algorithm, found.protocol), (NcclAlgorithm::Ring, Protocol::Simple));
        assert!((found.time_us - (56.0 + 1_073_741.824 / 137.142_857)).abs() < 0.01, "{found:?}");
        let found = changed("NCCL default", "Tree").unwrap();
        assert_eq!(found.algorithm, NcclAlgorithm::Tree);
    }

    #[test]
    fn what_cannot_be_predicted_says_why() {
        for (from, to, reason) in [
            ("a100-sxm4-80gb", "a100x", "accelerator: `a100x` is not in the catalogue"),
            ("a100-sxm4-80gb", "gaudi", "accelerator: NCCL does not run on gaudi"),
            ("nvlink3-nvswitch", "", "intra_node_link: not given"),
            ("nvlink3-nvswitch", "wire", "intra_node_link: `wire` is not in the catalogue"),
            (
                "nvlink3-nvswitch",
                "infiniband-hdr",
                "intra_node_link: `infiniband-hdr` is not in the catalogue",
            ),
            ("300", "200", "intra_node_link: 200 GB/s, but nvlink3-nvswitch has 300 GB/s"),
            (",8,1,", ",,1,", "accelerators: not given"),
            (",8,1,", ",8,3,", "accelerators: 8 are not the same number on each of 3 nodes"),
            (",8,1,", ",8,2,", "nic_gbit_per_s: not given"),
            (",8,1,", ",1,1,", "NCCL needs at least 2 ranks"),
            ("NCCL default", "NVLS", "software: NCCL 2.20 does not use nvls there"),
        ] {
            assert_eq!(changed(from, to).unwrap_err(), reason);
        }
    }

    #[test]
    fn software_names_an_algorithm_or_a_version() {
        for (software, algorithm, version) in [
            ("NCCL default", None, None),
            ("NCCL 2.27.7", None, Some(NcclVersion::V2_27)),
            ("NCCL default (NVLS)", Some(NcclAlgorithm::Nvls), None),
            ("Ring (NCCL_NVLS_ENABLE=0)", Some(NcclAlgorithm::Ring), None),
            ("NCCL 2.27.7 (Ring LL <=1MiB, NVLS >=2MiB)", None, Some(NcclVersion::V2_27)),
            ("nccl 2.19.3 tree", Some(NcclAlgorithm::Tree), Some(NcclVersion::V2_20)),
        ] {
            assert_eq!(named_algorithm(software), algorithm, "{software}");
            assert_eq!(named_version(software), version, "{software}");
        }
    }

    #[test]
    fn an_accelerator_newer_than_the_oldest_constants_takes_newer_ones() {
        let row = "A,s,b200-sxm,8,1,nvlink5-nvswitch,900,,,,NCCL default,1024,1";
        assert_eq!(predicted(row).unwrap().nccl_version, NcclVersion::V2_27);
        let named = row.replace("NCCL default", "NCCL 2.20.3");
        let reason = "NCCL 2.20 does not know compute capability 10.0";
        assert_eq!(predicted(&named).unwrap_err(), reason);
    }

    #[test]
    fn efa_before_p5_leaves_simple() {
        let row = "A,s,a100-sxm4-80gb,16,2,nvlink3-nvswitch,300,4,100,efa,NCCL default,1024,1";
        assert_eq!(predicted(row).unwrap().protocol, Protocol::Simple);
        let other = row.replace("efa", "infiniband");
        assert_eq!(predicted(&other).unwrap().protocol, Protocol::Ll);
    }
}

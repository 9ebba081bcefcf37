use foretrain_sim::network::{Graph, Interconnect, NodeTopology, Rank};
use foretrain_sim::scenario::{Overrides, Scenario, cluster_network, read_spec};
use foretrain_sim::units::{Bandwidth, SimDuration};
use proptest::prelude::*;

use super::*;

/// Made up for these tests, after the form that NCCL writes.
const DGX_1: &str = include_str!("../../../tests/data/nccl-topology-made-up-dgx-1-v100.xml");
const DGX_A100: &str = include_str!("../../../tests/data/nccl-topology-made-up-dgx-a100.xml");
const PCIE: &str = include_str!("../../../tests/data/nccl-topology-made-up-4x-a100-pcie.xml");

fn nodes(nodes: u32) -> ClusterOptions {
    ClusterOptions { nodes, ..ClusterOptions::default() }
}

fn every_link(nodes: u32) -> ClusterOptions {
    ClusterOptions { nodes, every_link: true, ..ClusterOptions::default() }
}

fn us(us: f64) -> Option<SimDuration> {
    Some(SimDuration::from_ps((us * 1e6) as u64))
}

/// The cluster, after a scenario was made of its text.
fn cluster(text: &str, options: &ClusterOptions) -> ImportedCluster {
    let imported = read(text).unwrap().cluster(options).unwrap();
    let scenario = format!(
        "name = \"imported\"\n{}\n[training]\nmodel = \"resnet50\"\nper_accelerator_batch = 32\n\
         precision = \"fp16-mixed\"\n[allreduce]\nalgorithm = \"ring\"\n[compute]\n\
         anchor = \"1000 images/s at 32\"\n",
        imported.toml
    );
    let case = Scenario::from_toml(&scenario, Overrides::default());
    let case = case.unwrap_or_else(|error| panic!("{error}\n{scenario}")).cases.remove(0);
    assert_eq!(Some(case.accelerators), imported.spec.accelerators);
    assert_eq!(case.nodes, options.nodes);
    let written = read_spec(&scenario).unwrap().cluster;
    let json = |spec| serde_json::to_value(spec).unwrap();
    assert_eq!(json(&written), json(&imported.spec));
    imported
}

fn graph_of(imported: &ImportedCluster) -> Graph {
    let spec = read_spec(&format!("name = \"\"\n{}", imported.toml)).unwrap();
    let accelerators = imported.spec.accelerators.unwrap();
    match cluster_network(&spec, accelerators).unwrap().network {
        Interconnect::Graph(network) => network.graph().clone(),
        other => panic!("{other:?}"),
    }
}

/// Latency in us, bandwidth in MB/s and number of links of the way from one rank to another.
fn way(graph: &Graph, from: u32, to: u32) -> (f64, u64, usize) {
    let path = graph.router().route(Rank(from), Rank(to), 0).unwrap();
    let bandwidth = graph.bottleneck(&path).map_or(0, Bandwidth::bytes_per_s);
    (graph.latency(&path).as_us(), bandwidth / 1_000_000, path.len())
}

fn problem(text: &str, options: &ClusterOptions) -> String {
    read(text).and_then(|topology| topology.cluster(options).map(|_| ())).unwrap_err().to_string()
}

#[test]
fn reads_what_nccl_wrote() {
    let topology = read(DGX_1).unwrap();
    let counts =
        (topology.cpus.len(), topology.switches.len(), topology.gpus.len(), topology.nics.len());
    assert_eq!(counts, (2, 4, 8, 4));
    assert_eq!(topology.gpus[3].bus_id, "0000:0b:00.0");
    assert_eq!(topology.gpus[3].peer_nvlinks, [(0, 2), (1, 1), (2, 2), (7, 1)]);
    assert_eq!(topology.gpus[3].name, Some("v100-sxm2-16gb"));
    assert_eq!(topology.nics[1].name, "mlx5_1");
    assert_eq!(topology.nics[1].bandwidth, "100 Gbit/s".parse().unwrap());
    assert!(topology.nics[1].is_infiniband);
    assert_eq!(topology.warnings, [""; 0]);
    // Of each of four Broadcom switches, the two on the second level are one with it; three are below.
    // The card with two ports counts as another.
    let topology = read(DGX_A100).unwrap();
    assert_eq!((topology.switches.len(), topology.cpus.len()), (4 * 4 + 1, 5));
    assert_eq!(topology.gpus[7].switch_nvlinks, 12);
}

/// Six NVLinks of 20 GB/s; PCIe 3 carries 12 of an interface's 12.5 GB/s.
#[test]
fn a_dgx_1_is_a_hybrid_cube_mesh() {
    let imported = cluster(DGX_1, &nodes(2));
    let spec = &imported.spec;
    assert_eq!(spec.node_topology, Some(NodeTopology::HybridCubeMesh { nvlinks: Some(6) }));
    assert_eq!(spec.accelerator.as_deref(), Some("v100-sxm2-16gb"));
    assert_eq!((spec.accelerators, spec.nics_per_node), (Some(16), Some(4)));
    assert_eq!(spec.intra_node_link, Some("120 GB/s, 3.4 us".parse().unwrap()));
    assert_eq!(spec.inter_node_link, Some("12 GB/s, 14 us".parse().unwrap()));
    assert!(imported.toml.contains("\"nvlink2-cube-mesh\""), "{}", imported.toml);
    assert_eq!(imported.warnings.len(), 1, "{:?}", imported.warnings);
}

/// What few words say and every link written out are the same to each message.
#[test]
fn a_dgx_1_link_by_link_is_the_same() {
    let regular = graph_of(&cluster(DGX_1, &nodes(2)));
    let imported = cluster(DGX_1, &every_link(2));
    assert!(imported.spec.node_topology.is_none() && imported.spec.inter_node_link.is_none());
    let graph = graph_of(&imported);
    for (from, to, expected) in [
        (0, 1, (3.4, 20_000)),
        (0, 3, (3.4, 40_000)),
        // Through 1 or 4 and 5: at least one NVLink is alone.
        (0, 5, (6.8, 20_000)),
        (0, 8, (14.0, 12_000)),
        (3, 15, (14.0, 12_000)),
    ] {
        for graph in [&regular, &graph] {
            let (latency_us, mb_per_s, _) = way(graph, from, to);
            // From 0 to 5, two ways are as short: over 1 (20, 40 GB/s) and over 4 (40, 20).
            assert_eq!((latency_us, mb_per_s), expected, "{from} {to}");
        }
    }
    // One node has no ways but NVLink.
    let alone = graph_of(&cluster(DGX_1, &every_link(1)));
    assert_eq!((alone.vertices().len(), alone.edges().len()), (8, 2 * 16));
}

/// Twelve NVLinks of 20 GB/s; PCIe 4 carries 24 of an interface's 25 GB/s.
#[test]
fn a_dgx_a100_is_a_switch() {
    let imported = cluster(DGX_A100, &nodes(4));
    let spec = &imported.spec;
    assert_eq!(spec.node_topology, Some(NodeTopology::Switch {}));
    assert_eq!(spec.accelerator.as_deref(), Some("a100-sxm4-40gb"));
    assert_eq!((spec.accelerators, spec.nics_per_node), (Some(32), Some(8)));
    assert_eq!(spec.intra_node_link, Some("240 GB/s, 3.4 us".parse().unwrap()));
    assert_eq!(spec.inter_node_link, Some("24 GB/s, 14 us".parse().unwrap()));
    assert_eq!(imported.warnings[0], "mlx5_4, mlx5_5: nearest to no accelerator, and left out");
    let graph = graph_of(&cluster(DGX_A100, &every_link(2)));
    assert_eq!(way(&graph, 0, 7), (3.4, 240_000, 2));
    // Accelerator, slot, two switches, interface, fabric: and as many again, but for the interface
    // of 9, which is below one switch less.
    assert_eq!(way(&graph, 0, 8), (14.0, 24_000, 10));
    let nic = |from| {
        let path = graph.router().route(Rank(from), Rank(8 + from), 0).unwrap();
        let names = path.iter().map(|&edge| graph.vertex(graph.edge(edge).to).name.clone());
        names.into_iter().find(|name| name.contains("nic")).unwrap()
    };
    assert_eq!(
        (nic(0), nic(1), nic(7)),
        ("node 0/nic 0".into(), "node 0/nic 1".into(), "node 0/nic 7".into())
    );
}

/// PCIe 3: 12 GB/s; between Skylake's sockets 10 GB/s.
#[test]
fn pcie_is_written_link_by_link() {
    let imported = cluster(PCIE, &nodes(2));
    assert_eq!(imported.spec.accelerator.as_deref(), Some("a100-pcie-40gb"));
    let graph = graph_of(&imported);
    assert_eq!(way(&graph, 0, 1), (5.7, 12_000, 2));
    assert_eq!(way(&graph, 0, 2), (5.7, 10_000, 3));
    // All four use the one interface, which is on the first socket.
    assert_eq!(way(&graph, 0, 4), (14.0, 12_000, 6));
    assert_eq!(way(&graph, 3, 4), (14.0, 10_000, 7));
    assert!(imported.warnings.iter().any(|warning| warning.contains("INTEL_P2P_OVERHEAD")));
    let options = ClusterOptions { network_latency: us(5.0), ..nodes(2) };
    assert_eq!(
        problem(PCIE, &options),
        "the network's latency (5 us) is below that of PCIe (5.7 us), which is part of it: give both"
    );
    let options = ClusterOptions { pcie_latency: us(1.0), network_latency: us(5.0), ..nodes(2) };
    let graph = graph_of(&cluster(PCIE, &options));
    assert_eq!(way(&graph, 0, 1).0, 1.0);
    assert_eq!(way(&graph, 3, 4).0, 5.0);
}

/// Two cards with a bridge of four NVLinks of 12 GB/s (sm 86), and two without.
#[test]
fn bridges_join_pairs() {
    let nvlink = |target| {
        format!("\" gdr=\"1\"><nvlink target=\"{target}\" count=\"4\" tclass=\"0x030200\"/></gpu>")
    };
    let text = PCIE.replace("sm=\"80\"", "sm=\"86\"").replace("0x20f1", "0x2235");
    let text =
        text.replace("rank=\"0\" gdr=\"1\"/>", &format!("rank=\"0{}", nvlink("0000:AF:00.0")));
    let text =
        text.replace("rank=\"1\" gdr=\"1\"/>", &format!("rank=\"1{}", nvlink("0000:3b:00.0")));
    let named = ClusterOptions { accelerator: Some("a100-pcie-40gb".into()), ..nodes(2) };
    assert!(problem(&text, &named).contains("NVLinks of compute capability 8.6"));
    let options = ClusterOptions { nvlink_latency: us(3.4), ..named };
    let graph = graph_of(&cluster(&text, &options));
    assert_eq!(way(&graph, 0, 1), (3.4, 48_000, 1));
    assert_eq!(way(&graph, 1, 2), (5.7, 10_000, 5));
    assert_eq!(way(&graph, 2, 3), (5.7, 12_000, 4));
    let unnamed = ClusterOptions { accelerator: None, ..options };
    let imported = read(&text).unwrap().cluster(&unnamed).unwrap();
    assert!(imported.warnings.iter().any(|warning| warning.contains("device number is not known")));
    // The first two alone are a mesh of one link.
    let pair =
        text.lines().filter(|line| !line.contains("dev=\"2\"") && !line.contains("dev=\"3\""));
    let imported = read(&pair.collect::<Vec<_>>().join("\n")).unwrap().cluster(&unnamed).unwrap();
    assert_eq!(imported.spec.node_topology, Some(NodeTopology::Mesh {}));
    assert_eq!(imported.spec.intra_node_link, Some("48 GB/s, 3.4 us".parse().unwrap()));
}

#[test]
fn what_is_not_represented_is_said() {
    let c2c = "gdr=\"1\"><c2c bw=\"44712\" count=\"10\"/><nvlink target=\"0000:99:00.0\" count=\"1\" \
               tclass=\"0x068001\"/></gpu>";
    let text = PCIE.replace("rank=\"0\" gdr=\"1\"/>", &format!("rank=\"0\" {c2c}"));
    let text = text.replace("speed=\"100000\"", "speed=\"-1\"").replacen("8.0 GT/s PCIe", "", 1);
    let text = text.replace("latency=\"0.000000\"", "latency=\"2.5\"");
    let topology = read(&text).unwrap();
    let found = |part| topology.warnings.iter().filter(|warning| warning.contains(part)).count();
    for part in ["NVLink-C2C", "POWER", "10 Gbit/s", "speed `` and width `16`"] {
        assert_eq!(found(part), 1, "{part}: {:?}", topology.warnings);
    }
    assert_eq!(topology.gpus[0].link.bandwidth, "12 GB/s".parse().unwrap());
    assert_eq!(topology.nics[0].latency, us(2.5).unwrap());
    assert!(problem(&text, &nodes(2)).contains("no latency of an interface like mlx5_0"));
    let options = ClusterOptions { network_latency: us(14.0), ..nodes(2) };
    assert_eq!(way(&graph_of(&cluster(&text, &options)), 0, 4).0, 16.5);
}

#[test]
fn mistakes_are_named() {
    for (text, expected) in [
        (String::new(), "line 1: this is not XML"),
        (PCIE.replace("system", "graphs"), "line 2: `<graphs>`, expected `<system>`"),
        (
            PCIE.replace("<system version=\"1\">", "<system version=\"2\">"),
            "line 2: `version`: version 2, expected 1 (RCCL",
        ),
        (PCIE.replacen("c0ffee03", "c0ffee04", 1), "line 16: `host_hash`: another host"),
        (PCIE.replace("rank=", "ranks="), "no `<gpu>` with a `rank`"),
        (
            PCIE.replace("rank=\"3\"", "rank=\"2\""),
            "line 21: `rank`: rank 2 at 0000:d9:00.0 is there twice",
        ),
        (
            PCIE.replace("sm=\"80\" rank=\"1\"", "rank=\"1\""),
            "line 13: `sm`: `<gpu>` has no such attribute",
        ),
        (
            PCIE.replace("sm=\"80\" rank=\"1\"", "sm=\"8.0\" rank=\"1\""),
            "line 13: `sm`: `8.0`, expected a whole number",
        ),
        (PCIE.replace(" arch=\"x86_64\"", ""), "line 3: `arch`"),
    ] {
        let problem = read(&text).unwrap_err().to_string();
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
    assert!(problem(PCIE, &nodes(0)).contains("expected 1 to"));
    assert!(problem(PCIE, &nodes(2_000)).contains("at most 1024"));
    assert!(problem(PCIE, &nodes(u32::MAX)).contains("expected 1 to"));
    let without = PCIE.replace("dev=\"0\" speed", "speed");
    assert!(problem(&without, &nodes(2)).contains("no network interface"));
    assert_eq!(way(&graph_of(&cluster(&without, &nodes(1))), 0, 3), (5.7, 10_000, 3));
    let unknown = ClusterOptions { accelerator: Some("a100".into()), ..nodes(1) };
    assert!(problem(PCIE, &unknown).starts_with("there is no accelerator `a100`, expected one of"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_panics(text in "(<(system|cpu|pci|gpu|net) ?|[a-z]{1,5}=\"[0-9x.]{0,4}\" ?|/?>|\\PC){0,40}") {
        let _ = read(&text);
    }

    #[test]
    fn no_change_panics(
        which in 0..3_usize,
        changes in proptest::collection::vec((any::<u16>(), "[0-9a-f]"), 1..12),
        many in 1..3_u32,
        every_link: bool,
    ) {
        let mut text = [DGX_1, DGX_A100, PCIE][which].to_owned();
        // Digits for digits, so that most texts remain XML.
        let digits: Vec<usize> = text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, _)| at).collect();
        for (at, new) in changes {
            let at = digits[usize::from(at) % digits.len()];
            text.replace_range(at..=at, &new);
        }
        let options = ClusterOptions {
            nodes: many,
            every_link,
            nvlink_latency: us(3.4),
            pcie_latency: us(1.0),
            network_latency: us(5.0),
            accelerator: Some("v100-sxm2-16gb".into()),
        };
        if let Ok(imported) = read(&text).and_then(|topology| topology.cluster(&options)) {
            let spec = read_spec(&format!("name = \"\"\n{}", imported.toml)).unwrap();
            let ranks = imported.spec.accelerators.unwrap();
            prop_assert!(cluster_network(&spec, ranks).is_ok(), "{:?}", cluster_network(&spec, ranks).err());
        }
    }
}

/// Files from strangers must not end the program.
#[test]
fn deep_files_are_refused() {
    let deep = |element: &str| format!("<system version=\"1\">{}", element.repeat(100_000));
    assert!(read(&deep("<pci>")).is_err());
    let pci = "<pci busid=\"0\" class=\"0x060400\">";
    let cpu = "<cpu numaid=\"0\" arch=\"x86_64\">";
    let (open, close) = (pci.repeat(40), "</pci>".repeat(40));
    let text = format!("<system version=\"1\">{cpu}{open}{close}</cpu></system>");
    assert!(read(&text).unwrap_err().to_string().contains("more than 32 deep"));
}

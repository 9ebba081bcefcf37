//! Profiles: text and back, interpolation by hand, and what is refused.

use super::*;
use crate::collective::{Algorithm, AlgorithmName, Between, Inside};
use crate::fusion::Fusion;
use crate::recording::NumberFormat;

fn batch(batch: u64, forward: [f64; 2], backward: [f64; 2]) -> BatchTimes {
    BatchTimes {
        batch,
        steps: 10,
        host_us: Estimate::exact(5.0),
        forward_us: Estimate::exact(forward.iter().sum()),
        backward_us: Estimate::exact(backward.iter().sum()),
        optimizer_us: Estimate::exact(30.0),
        layer_forward_us: forward.to_vec(),
        layer_backward_us: backward.to_vec(),
    }
}

fn compute() -> ComputeProfile {
    let layer = |name: &str, elements: &[u64]| LayerEntry {
        name: name.to_owned(),
        operation: "linear".to_owned(),
        tensors: elements
            .iter()
            .enumerate()
            .map(|(index, &elements)| TensorEntry { name: format!("{name}.{index}"), elements })
            .collect(),
    };
    ComputeProfile {
        network: "two layers".to_owned(),
        input: [3, 4, 4],
        precision: NumberFormat::F32,
        wire: None,
        optimizer: "lars".to_owned(),
        layers: vec![layer("one", &[100, 10]), layer("two", &[50])],
        batches: vec![batch(8, [10.0, 20.0], [20.0, 40.0]), batch(16, [16.0, 40.0], [30.0, 90.0])],
        overlap_slowdown: None,
    }
}

pub(crate) fn profile() -> Profile {
    let range = |from_bytes, us, rate| LinkRange {
        from_bytes,
        latency_us: Estimate::exact(us),
        gbyte_per_s: Estimate::exact(rate),
    };
    Profile {
        profile: VERSION,
        foretrain: "0.1.0".to_owned(),
        origin: Origin {
            procedure: "calibrate".to_owned(),
            command: "foretrain calibrate -o profile.json".to_owned(),
            measured: "2026-01-01".to_owned(),
            seed: 1,
        },
        machine: MachineEntry {
            device: "a processor".to_owned(),
            threads: 1,
            ranks: 4,
            ranks_per_node: 2,
            transport: "tcp".to_owned(),
            driver: None,
            memory_bytes: None,
        },
        compute: Some(compute()),
        packing: Some(PackingProfile {
            pack_us: Estimate::exact(1.0),
            pack_us_per_mb: Estimate::exact(100.0),
            unpack_us: Estimate::exact(0.0),
            unpack_us_per_mb: Estimate::exact(0.0),
        }),
        links: LinkProfiles {
            intra_node: None,
            inter_node: Some(LinkProfile {
                ranges: vec![range(0, 10.0, 1.0), range(65_536, 50.0, 10.0)],
                held_out: HeldOutError { points: 9, median_percent: 1.0, max_percent: 3.0 },
                measured_bytes: (512, 1 << 27),
            }),
        },
        collectives: Vec::new(),
        jitter: Some(JitterProfile {
            distribution: JitterDistribution::Gamma,
            variation: Estimate { value: 0.02, low: 0.019, high: 0.022 },
            best: "gamma".to_owned(),
            ks_distance: 0.01,
            ks_probability: 0.4,
            autocorrelation: 0.0,
            paused_share: 0.0,
            steps: 1000,
            slow_ranks: Vec::new(),
        }),
        input: None,
        gradient_noise: None,
        cost: None,
        steps: Vec::new(),
        warnings: Vec::new(),
        measurements: None,
    }
}

#[test]
fn a_profile_survives_text_and_back() {
    let profile = profile();
    let text = profile.to_json().unwrap();
    assert_eq!(Profile::read(&text), Ok(profile));
    // Keys that are not known are skipped.
    let more = text.replacen('{', "{\"later\": 1,", 1);
    assert!(Profile::read(&more).is_ok());
}

#[test]
fn layers_are_interpolated_between_batches_and_carried_on_beyond() {
    let compute = compute();
    let us = |batch| {
        let times = compute.compute_times(batch).unwrap();
        let layers: Vec<f64> = times
            .layers
            .iter()
            .flat_map(|one| [one.forward.as_us(), one.backward.as_us()])
            .collect();
        (layers, times.optimizer.as_us())
    };
    // First the host, as the node `input`.
    assert_eq!(us(8), (vec![5.0, 0.0, 10.0, 20.0, 20.0, 40.0], 30.0));
    assert_eq!(us(16), (vec![5.0, 0.0, 16.0, 30.0, 40.0, 90.0], 30.0));
    assert_eq!(us(12).0, [5.0, 0.0, 13.0, 25.0, 30.0, 65.0]);
    // t(24) = t(16) + (t(16) − t(8)).
    assert_eq!(us(24).0, [5.0, 0.0, 22.0, 40.0, 60.0, 140.0]);
    // t(4) = t(8) − (t(16) − t(8)) / 2.
    assert_eq!(us(4).0, [5.0, 0.0, 7.0, 15.0, 10.0, 15.0]);
    assert!(compute.extrapolates(4) && !compute.extrapolates(12) && compute.extrapolates(24));
    // From one batch alone, layers are proportional to the batch.
    let one = ComputeProfile { batches: compute.batches[..1].to_vec(), ..compute };
    let times = one.compute_times(16).unwrap();
    assert_eq!(times.layers[1].forward.as_us(), 20.0);
    assert_eq!((times.layers[0].forward.as_us(), times.optimizer.as_us()), (5.0, 30.0));
}

#[test]
fn the_network_of_a_profile_has_its_tensors() {
    let network = compute().network();
    assert_eq!((network.name(), network.parameter_count()), ("two layers", 160));
    let names: Vec<&str> = network.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["input", "one", "two"]);
    let gradients = crate::fusion::gradients(&network, &compute().compute_times(8).unwrap(), 4);
    let ready: Vec<(String, u64, f64)> = gradients
        .iter()
        .map(|one| (one.tensor.clone(), one.bytes.get(), one.ready_after.as_us()))
        .collect();
    // Last layer first; inside a layer the last tensor first.
    let expected = [("two.0", 200, 40.0), ("one.1", 40, 60.0), ("one.0", 400, 60.0)];
    assert_eq!(ready, expected.map(|(name, bytes, us)| (name.to_owned(), bytes, us)));
}

#[test]
fn links_and_packing_by_hand() {
    let profile = profile();
    let curve = profile.links.inter_node.unwrap().curve().unwrap();
    let us = |bytes| curve.message_time(Bytes::new(bytes)).as_us();
    assert_eq!([us(1000), us(100_000)], [11.0, 60.0]);
    let (pack, unpack) = profile.packing.unwrap().times(Bytes::new(500_000));
    assert_eq!((pack.as_us(), unpack.as_us()), (51.0, 0.0));
}

#[test]
fn entries_and_what_they_stand_for() {
    let (inside, between) = (Inside::Direct, Between::HalvingDoubling);
    for algorithm in [
        Algorithm::Ring,
        Algorithm::HalvingDoubling,
        Algorithm::Tree,
        Algorithm::InNetwork,
        Algorithm::Torus { group: 4 },
        Algorithm::Hierarchical { group: 2, inside, between },
        Algorithm::Hybrid { group: 2, inside, between, ring_from: Bytes::new(1 << 20) },
    ] {
        let entry = AllReduceEntry::from(algorithm);
        assert_eq!(Algorithm::try_from(entry), Ok(algorithm), "{entry}");
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<AllReduceEntry>(&text).unwrap(), entry);
    }
    let lacking = AllReduceEntry::plain(AlgorithmName::Hierarchical);
    let error = Algorithm::try_from(lacking).unwrap_err().to_string();
    assert_eq!(error, "hierarchical needs `group`: give it");
    for fusion in [
        Fusion::Tensor,
        Fusion::OneBucket,
        Fusion::Threshold(Bytes::new(1 << 16)),
        Fusion::Segments(vec!["one".to_owned()]),
    ] {
        let entry = FusionEntry::try_from(&fusion).unwrap();
        assert_eq!(Fusion::from(&entry), fusion);
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<FusionEntry>(&text).unwrap(), entry);
    }
    let rule = Fusion::MgWfbp { latency: SimDuration::ZERO, bandwidth: "1 GB/s".parse().unwrap() };
    let error = FusionEntry::try_from(&rule).unwrap_err().to_string();
    assert!(error.contains("another rule of fusion than mg-wfbp"), "{error}");
}

#[test]
fn what_cannot_be_simulated_is_named() {
    let refused = |text: &str| Profile::read(text).unwrap_err().to_string();
    assert!(refused("").contains("this is not a profile of foretrain calibrate"));
    assert!(refused("{}").contains("missing field `profile`"));
    let with = |change: &dyn Fn(&mut Profile)| {
        let mut profile = profile();
        change(&mut profile);
        refused(&profile.to_json().unwrap())
    };
    let version = with(&|profile| profile.profile = 2);
    assert!(version.starts_with("`profile`: format version 2, but this version"), "{version}");
    let batches = with(&|profile| profile.compute.as_mut().unwrap().batches.reverse());
    assert_eq!(batches, "`compute.batches`: expected increasing batches");
    let times = with(&|profile| {
        profile.compute.as_mut().unwrap().batches[1].layer_forward_us.pop();
    });
    assert_eq!(times, "`compute.batches[1].layer_forward_us`: 1 times, but there are 2 layers");
    let negative = with(&|profile| {
        profile.compute.as_mut().unwrap().batches[0].layer_backward_us[1] = -1.0;
    });
    assert!(negative.starts_with("`compute.batches[0].layer_backward_us`: -1, expected 0 to"));
    let rate = with(&|profile| {
        let link = profile.links.inter_node.as_mut().unwrap();
        link.ranges[1].gbyte_per_s = Estimate::exact(0.0);
    });
    assert!(rate.starts_with("`links.inter_node.ranges[1].gbyte_per_s`: 0, expected"), "{rate}");
    // What would divide by zero, overflow or never end.
    let steps = with(&|profile| {
        profile.steps.push(StepProfile {
            ranks: 4,
            ranks_per_node: 0,
            per_rank_batch: 8,
            all_reduce: AllReduceEntry::plain(AlgorithmName::Ring),
            fusion: FusionEntry::OneBucket,
            wire_element_bytes: 4,
            overlap: true,
            step_us: Estimate::exact(1.0),
            step_mean_us: 1.0,
            steps: 1,
        });
    });
    assert_eq!(steps, "`steps[0].ranks_per_node`: 0, expected 1 to 1048576");
    let tensors = with(&|profile| {
        profile.compute.as_mut().unwrap().layers[0].tensors[0].elements = u64::MAX;
    });
    assert!(tensors.starts_with("`compute.layers: one.0`: 18446744073709551615, expected"));
    let packing = with(&|profile| {
        profile.packing.as_mut().unwrap().pack_us = Estimate::exact(-1.0);
    });
    assert!(packing.starts_with("`packing.pack_us`: -1, expected 0 to"), "{packing}");
    let text = profile().to_json().unwrap();
    let typed = refused(&text.replace("\"batch\": 16", "\"batch\": \"16\""));
    assert!(typed.contains("`compute.batches[1].batch`: invalid type"), "{typed}");
    assert!(refused(&text[..text.len() / 2]).contains("cut short"));
}

#[test]
fn estimates_turn_over_and_scale() {
    let estimate = Estimate { value: 2.0, low: 1.0, high: 4.0 };
    assert_eq!(estimate.inverse(), Estimate { value: 0.5, low: 0.25, high: 1.0 });
    assert_eq!(estimate.scaled(2.0), Estimate { value: 4.0, low: 2.0, high: 8.0 });
    assert!(estimate.contains(1.0) && !estimate.contains(4.1));
    assert_eq!(estimate.relative_width(), 1.5);
}

//! Runs on a device that only replays times: they take at least these, and everything else is real.

use foretrain_sim::profile::{
    BatchTimes, ComputeProfile, Estimate, LayerEntry, MachineEntry, Origin, Profile, VERSION,
};
use foretrain_sim::recording::{EventKind, NumberFormat, Recording};

use super::tests::config;
use super::*;
use crate::communicator::ThreadTransport;
use crate::config::DeviceName;

/// A profile whose layers take 200 µs forward and 300 µs backward at batch 4.
fn profile(names: impl Iterator<Item = String>) -> Profile {
    let layers: Vec<LayerEntry> = names
        .map(|name| LayerEntry { name, operation: "any".to_owned(), tensors: Vec::new() })
        .collect();
    let count = layers.len();
    Profile {
        profile: VERSION,
        foretrain: "0.1.0".to_owned(),
        origin: Origin {
            procedure: "test".to_owned(),
            command: String::new(),
            measured: "2026-01-01".to_owned(),
            seed: 1,
        },
        machine: MachineEntry { ranks: 1, ranks_per_node: 1, ..MachineEntry::default() },
        compute: Some(ComputeProfile {
            network: "a network".to_owned(),
            input: [3, 8, 8],
            precision: NumberFormat::F32,
            wire: None,
            optimizer: "lars".to_owned(),
            layers,
            batches: vec![BatchTimes {
                batch: 4,
                steps: 1,
                host_us: Estimate::exact(100.0),
                forward_us: Estimate::exact(200.0 * count as f64),
                backward_us: Estimate::exact(300.0 * count as f64),
                optimizer_us: Estimate::exact(0.0),
                layer_forward_us: vec![200.0; count],
                layer_backward_us: vec![300.0; count],
            }],
            overlap_slowdown: None,
        }),
        packing: None,
        links: Default::default(),
        collectives: Vec::new(),
        jitter: None,
        input: None,
        gradient_noise: None,
        cost: None,
        steps: Vec::new(),
        warnings: Vec::new(),
        measurements: None,
    }
}

#[test]
fn a_paced_run_takes_the_times_of_its_profile() {
    let folder = tempfile::tempdir().unwrap();
    let output = "checkpoint_every = \"never\"\nrecording = { steps = 3, norms = false }";
    let mut config =
        config(folder.path(), "ranks = 2", "fusion = { rule = \"one-bucket\" }", output);
    let setup = Setup::new(config.clone(), 2, "test", "2026-01-01").unwrap();
    let layers = setup.layers();
    let pace = folder.path().join("profile.json");
    let text = profile(layers.iter().map(|layer| layer.name.clone())).to_json().unwrap();
    std::fs::write(&pace, text).unwrap();
    config.training.device = DeviceName::Paced;
    config.training.pace = Some(pace.clone());
    config.training.steps_max = Some(3);
    let setup = Setup::new(config.clone(), 2, "test", "2026-01-01").unwrap();
    let report = run(&setup, Place::<ThreadTransport>::Threads, &mut NobodyWatches).unwrap();
    assert_eq!(report.steps, 3);
    for rank in 0..2 {
        let path = folder.path().join(format!("recording.rank{rank}.jsonl"));
        let recording = Recording::read(&std::fs::read_to_string(path).unwrap()).unwrap();
        for step in 0..3 {
            let of_step = || recording.events.iter().filter(move |event| event.step == step);
            let passes = of_step().filter_map(|event| match event.kind {
                EventKind::Forward { span, .. } | EventKind::Backward { span, .. } => Some(span),
                _ => None,
            });
            let ends: Vec<u64> = passes.map(|span| span.end_ns).collect();
            assert_eq!(ends.len(), 2 * layers.len());
            let start = of_step()
                .filter_map(|event| match event.kind {
                    EventKind::InputWait { span } => Some(span.end_ns),
                    _ => None,
                })
                .next()
                .unwrap();
            // Nothing wakes early, so never less; how much more is the system's.
            let least_ns = 100_000 + 500_000 * layers.len() as u64;
            assert!(ends.iter().max().unwrap() - start >= least_ns);
            let bucket = of_step().any(|event| matches!(event.kind, EventKind::AllReduce { .. }));
            assert!(bucket, "gradients travel");
        }
    }
    // A profile of another network is refused, and says what differs.
    let other = profile(["conv1".to_owned(), "another".to_owned()].into_iter());
    std::fs::write(&pace, other.to_json().unwrap()).unwrap();
    let error = Setup::new(config.clone(), 2, "test", "2026-01-01").unwrap_err().to_string();
    assert!(
        error.contains("`training.pace`") && error.contains("instruction 1 of this"),
        "{error}"
    );
    config.training.pace = Some(folder.path().join("none.json"));
    let error = Setup::new(config, 2, "test", "2026-01-01").unwrap_err();
    assert!(error.is_input(), "{error}");
}

#[test]
fn a_pace_belongs_to_a_paced_device() {
    let toml = |training: &str| {
        crate::config::Config::from_toml(&format!(
            "name = \"t\"\n[network]\nmodel = \"resnet50\"\n[data]\nkind = \"synthetic\"\n[training]\n{training}\n"
        ))
        .unwrap_err()
        .to_string()
    };
    assert!(toml("pace = \"p.json\"").contains("this is for device paced"));
    assert!(
        toml("device = \"paced\"")
            .contains("the profile whose layer times are replayed is missing")
    );
}

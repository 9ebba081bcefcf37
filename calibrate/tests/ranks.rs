//! The procedure on real ranks, which are threads here: everything is measured, and nothing is said of
//! how long it took.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::time::Duration;

use foretrain_calibrate::measure::ranks::{RankSettings, Ranks};
use foretrain_calibrate::measure::{NobodyLooks, Parts, Procedure, StepVariant};
use foretrain_calibrate::measurements::{Measurements, Scope};
use foretrain_sim::collective::{Algorithm, AlgorithmName};
use foretrain_sim::profile::{AllReduceEntry, FusionEntry};
use foretrain_trainer::communicator::{
    Communicator, CommunicatorSettings, HostCommunicator, ThreadTransport,
};
use foretrain_trainer::config::Config;

fn config() -> Config {
    Config::from_toml(
        r#"
            name = "test"
            [network]
            model = "resnet-cifar"
            depth = 8
            image_size = 8
            [data]
            kind = "synthetic"
            synthetic = { samples = 400, eval_samples = 9, classes = 4 }
            workers = 1
            [training]
            global_batch = 16
            threads_per_rank = 1
            [optimizer]
            rule = "lars"
        "#,
    )
    .unwrap()
}

fn procedure() -> Procedure {
    let ring = AllReduceEntry::plain(AlgorithmName::Ring);
    let fusion = FusionEntry::Threshold { threshold_bytes: 100_000 };
    Procedure {
        parts: Parts::default(),
        batches: vec![2, 4],
        batch: 4,
        sizes: vec![1024, 3000, 65_536],
        collectives: vec![ring, Algorithm::hierarchical(2).into()],
        variants: StepVariant::product(&[ring], &[fusion.clone(), FusionEntry::Tensor], &[true]),
        usual: (ring, fusion),
        warmup_steps: 1,
        steps: 5,
        jitter_steps: 20,
        repeats: (3, 5),
        narrow: 0.01,
        time: Duration::from_secs(20),
        seed: 1,
        command: "test".to_owned(),
        measured: "2026-01-01".to_owned(),
        usd_per_accelerator_hour: None,
        watts_per_accelerator: None,
    }
}

/// Measures with four ranks, two of which are as if on another node.
fn measure() -> Vec<Measurements> {
    let scratch = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let ranks = ThreadTransport::world(4).into_iter().zip(0..).map(|(transport, rank)| {
            let folder = scratch.path();
            scope.spawn(move || {
                let settings = CommunicatorSettings::default();
                let communicator: Box<dyn Communicator> =
                    Box::new(HostCommunicator::new(transport, settings).unwrap());
                let settings = RankSettings {
                    config: config(),
                    local_rank: rank % 2,
                    local_ranks: 2,
                    scratch: folder.join(rank.to_string()),
                    device: "a processor".to_owned(),
                    started: "2026-01-01".to_owned(),
                };
                let mut subject = Ranks::new(communicator, settings);
                procedure().run(&mut subject, &mut NobodyLooks).unwrap()
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn everything_is_measured_on_real_ranks() {
    let all = measure();
    let first = &all[0];
    assert_eq!((first.machine.ranks, first.machine.ranks_per_node), (4, 2));
    let network = first.network.as_ref().unwrap();
    assert_eq!(
        (network.name.as_str(), network.optimizer.as_str()),
        ("ResNet for small images", "lars")
    );
    let tensors: usize = network.layers.iter().map(|layer| layer.tensors.len()).sum();
    assert!(tensors > 20, "{tensors}");
    // Messages of both kinds, half of what was summed; and whole all-reduces.
    let scopes: Vec<Scope> = first.links.iter().map(|link| link.scope).collect();
    assert_eq!(scopes, [Scope::IntraNode, Scope::InterNode]);
    for link in &first.links {
        let bytes: Vec<u64> = link.sizes.iter().map(|size| size.message_bytes).collect();
        assert_eq!(bytes, [512, 1500, 32_768]);
    }
    assert_eq!(first.collectives.len(), 2);
    let sizes = first.links.iter().flat_map(|link| &link.sizes);
    let sizes = sizes.chain(first.collectives.iter().flat_map(|collective| &collective.sizes));
    for size in sizes {
        assert!((3..=5).contains(&size.seconds.len()), "{size:?}");
        assert!(size.seconds.iter().all(|seconds| *seconds > 0.0));
    }
    // Batches 2 and 4 alone, 4 with overlap, and many steps for the variation.
    let series: Vec<(u64, bool, bool)> = first
        .compute
        .iter()
        .map(|series| (series.batch, series.overlap, series.steps.is_empty()))
        .collect();
    assert_eq!(series, [(2, false, false), (4, false, false), (4, true, false), (4, false, true)]);
    for series in &first.compute {
        assert_eq!(series.rank_compute_ns.len(), 4);
        for step in &series.steps {
            assert_eq!(step.forward_ns.len(), network.layers.len());
            assert!(step.step_ns >= step.compute_ns() && !step.buckets.is_empty());
        }
    }
    assert_eq!(first.steps.len(), 2);
    assert!(first.steps.iter().all(|steps| steps.periods_s.len() >= 5));
    assert!(!first.norms.as_ref().unwrap().local_and_averaged.is_empty());
    assert_eq!(first.input.as_ref().unwrap().decode_s_per_image.len(), 9);
    // What counts is the same on all ranks.
    for other in &all[1..] {
        assert_eq!(other.links, first.links);
        assert_eq!(other.collectives, first.collectives);
        assert_eq!(other.steps, first.steps);
    }
    assert_eq!(Measurements::read(&first.to_json().unwrap()).as_ref(), Ok(first));
}

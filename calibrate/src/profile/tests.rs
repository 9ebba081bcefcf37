//! From the synthetic machine to a profile: the truth comes out again, and the simulator reproduces
//! what was measured.

use std::time::Duration;

use foretrain_sim::collective::{Algorithm, AlgorithmName, Between, Inside};
use foretrain_sim::profile::{AllReduceEntry, FusionEntry, Profile};
use foretrain_sim::units::Bytes;

use super::*;
use crate::measure::synthetic::{Synthetic, Truth};
use crate::measure::{NobodyLooks, Parts, Procedure, StepVariant};
use crate::verify::{Kind, verify};

fn hierarchical() -> AllReduceEntry {
    let (inside, between) = (Inside::Ring, Between::Ring);
    Algorithm::Hierarchical { group: 2, inside, between }.into()
}

fn procedure() -> Procedure {
    let ring = AllReduceEntry::plain(AlgorithmName::Ring);
    let fusion = FusionEntry::Threshold { threshold_bytes: 512 << 10 };
    Procedure {
        parts: Parts::default(),
        batches: vec![8, 16],
        batch: 8,
        sizes: (10..28).map(|power| 1 << power).collect(),
        collectives: vec![ring, hierarchical()],
        variants: StepVariant::product(
            &[ring, hierarchical()],
            &[fusion.clone(), FusionEntry::OneBucket],
            &[false, true],
        ),
        usual: (ring, fusion),
        warmup_steps: 2,
        steps: 40,
        jitter_steps: 500,
        repeats: (9, 25),
        narrow: 0.01,
        time: Duration::from_secs(3600),
        seed: 1,
        command: "foretrain calibrate".to_owned(),
        measured: "2026-01-01".to_owned(),
        usd_per_accelerator_hour: Some(2.0),
        watts_per_accelerator: None,
    }
}

fn measured(truth: Truth, seed: u64, procedure: &Procedure) -> Measurements {
    procedure.run(&mut Synthetic::new(truth, seed), &mut NobodyLooks).unwrap()
}

/// How many of some truths lie in their intervals.
#[derive(Debug, Default)]
struct Coverage {
    inside: usize,
    of: usize,
}

impl Coverage {
    fn count(&mut self, inside: bool) {
        self.inside += usize::from(inside);
        self.of += 1;
    }

    fn share(&self) -> f64 {
        self.inside as f64 / self.of as f64
    }
}

#[test]
fn what_is_true_of_a_machine_comes_out_and_is_reproduced() {
    let truth = Truth::small();
    let measurements = measured(truth.clone(), 7, &procedure());
    let profile = fit(&measurements, None).unwrap();
    profile.check().unwrap();
    assert_eq!(Profile::read(&profile.to_json().unwrap()).as_ref(), Ok(&profile));
    let near = |found: f64, expected: f64, share: f64, what: &str| {
        assert!((found / expected - 1.0).abs() < share, "{what}: {found}, expected {expected}");
    };
    let compute = profile.compute.as_ref().unwrap();
    for (found, expected) in compute.batches.iter().zip(&truth.compute.batches) {
        // 40 steps whose factor varies by 2 %.
        near(found.forward_us.value, expected.forward_us.value, 0.02, "forward");
        near(found.backward_us.value, expected.backward_us.value, 0.02, "backward");
        near(found.optimizer_us.value, expected.optimizer_us.value, 0.02, "update");
        // What lies between steps is lost in their variation here.
        near(found.host_us.value, expected.host_us.value, 0.1, "host");
        let layers = found.layer_forward_us.iter().zip(&expected.layer_forward_us);
        layers.for_each(|(found, expected)| near(*found, *expected, 0.02, "layer"));
    }
    assert_eq!(compute.layers, truth.compute.layers);
    let packing = profile.packing.unwrap();
    near(packing.pack_us_per_mb.value, 120.0, 0.02, "packing");
    near(packing.pack_us.value, 3.0, 0.3, "packing nothing");
    let jitter = profile.jitter.as_ref().unwrap();
    near(jitter.variation.value, 0.02, 0.1, "variation");
    assert!(jitter.slow_ranks.is_empty() && jitter.autocorrelation.abs() < 0.1);
    near(profile.input.as_ref().unwrap().decode_us_per_image.value, 250.0, 0.1, "decoding");
    let noise = profile.gradient_noise.as_ref().unwrap();
    assert!(noise.scale_images.contains(truth.noise.0), "{noise:?}");
    assert_eq!(profile.cost.unwrap().usd_per_accelerator_hour, Some(2.0));
    for (link, curve) in [
        (&profile.links.intra_node, &truth.intra_node),
        (&profile.links.inter_node, &truth.inter_node),
    ] {
        let link = link.as_ref().unwrap();
        assert_eq!(link.ranges.len(), 2, "{link:?}");
        assert!(link.held_out.median_percent < 5.0, "{link:?}");
        let fitted = link.curve().unwrap();
        for power in 10..26 {
            let bytes = Bytes::new(3 << (power - 1));
            let (found, expected) = (fitted.message_time(bytes), curve.message_time(bytes));
            near(found.as_us(), expected.as_us(), 0.1, "message");
        }
    }
    // All-reduces and steps were no part of any fit.
    let verdict = verify(&profile, &[&profile]).unwrap();
    assert_eq!((verdict.points.len(), verdict.not_compared.len()), (2 * 18 + 8, 0));
    for errors in &verdict.errors {
        let most = if errors.kind == Kind::Step { 2.0 } else { 5.0 };
        assert!(errors.mean_abs_error_percent < most, "{errors:?}");
        assert!(errors.max_abs_error_percent < 4.0 * most, "{errors:?}");
    }
}

#[test]
fn links_and_variation_lie_in_their_intervals() {
    // Only what has an interval and a truth, for 200 seeds.
    let mut procedure = procedure();
    procedure.parts = Parts { compute: false, steps: false, noise: false, ..Parts::default() };
    procedure.collectives.clear();
    procedure.jitter_steps = 50;
    procedure.repeats = (15, 15);
    let truth = Truth::small();
    let mut coverage: [Coverage; 4] = Default::default();
    let mut held_out = Vec::new();
    for seed in 0..200 {
        procedure.seed = seed;
        let profile = fit(&measured(truth.clone(), seed, &procedure), None).unwrap();
        let [latency, rate, decode, variation] = &mut coverage;
        for (link, curve) in [
            (&profile.links.intra_node, &truth.intra_node),
            (&profile.links.inter_node, &truth.inter_node),
        ] {
            let link = link.as_ref().unwrap();
            held_out.push(link.held_out.median_percent);
            if link.ranges.len() != curve.ranges().len() {
                // Another number of protocols is not the truth.
                latency.count(false);
                rate.count(false);
                continue;
            }
            for (found, (_, expected)) in link.ranges.iter().zip(curve.ranges()) {
                latency.count(found.latency_us.contains(expected.latency.as_us()));
                let gbyte_per_s = expected.bandwidth.bytes_per_s() as f64 / 1e9;
                rate.count(found.gbyte_per_s.contains(gbyte_per_s));
            }
        }
        let input = profile.input.as_ref().unwrap();
        decode.count(input.decode_us_per_image.contains(1e6 * truth.decode_s));
        let jitter = profile.jitter.as_ref().unwrap();
        variation.count(jitter.variation.contains(truth.jitter.variation));
    }
    let shares = coverage.each_ref().map(Coverage::share);
    println!("latency, rate, decoding, variation: {shares:?}");
    assert!(shares.iter().all(|share| *share >= 0.9), "{shares:?}");
    let median = crate::fit::robust::median(&held_out);
    assert!(median <= 5.0, "held-out error {median} %");
}

#[test]
fn the_order_of_rows_changes_nothing() {
    let mut procedure = procedure();
    procedure.parts = Parts { steps: false, noise: false, jitter: false, ..Parts::default() };
    let measurements = measured(Truth::small(), 3, &procedure);
    let mut shuffled = measurements.clone();
    shuffled.links.reverse();
    for link in &mut shuffled.links {
        link.sizes.reverse();
        link.sizes.iter_mut().for_each(|size| size.seconds.rotate_left(2));
    }
    shuffled.compute.reverse();
    let (one, two) = (fit(&measurements, None).unwrap(), fit(&shuffled, None).unwrap());
    assert_eq!((one.links, one.compute), (two.links, two.compute));
}

#[test]
fn what_is_doubtful_is_said_and_what_is_impossible_refused() {
    let mut procedure = procedure();
    procedure.parts = Parts { noise: false, ..Parts::default() };
    procedure.collectives.clear();
    procedure.variants.clear();
    procedure.sizes = (10..16).map(|power| 1 << power).collect();
    let mut truth = Truth::small();
    truth.jitter.slow_ranks = vec![foretrain_sim::jitter::SlowRank {
        rank: foretrain_sim::network::Rank(2),
        factor: 1.3,
    }];
    let mut measurements = measured(truth, 5, &procedure);
    measurements
        .observations
        .push(Observation::ClockThrottled { before_mhz: 3000.0, lowest_mhz: 2000.0 });
    let profile = fit(&measurements, None).unwrap();
    let codes: Vec<&str> = profile.warnings.iter().map(|one| one.code.as_str()).collect();
    for code in ["too-few-sizes", "slow-rank", "clock-throttled"] {
        assert!(codes.contains(&code), "{code} is not in {codes:?}");
    }
    let (rank, factor) = profile.jitter.unwrap().slow_ranks[0];
    assert!(rank == 2 && (factor - 1.3).abs() < 0.02, "{rank} {factor}");
    // Three sizes are no curve.
    measurements.links[0].sizes.truncate(3);
    let refused = fit(&measurements, None).unwrap_err().to_string();
    assert!(refused.starts_with("intra-node link: 3 distinct message sizes"), "{refused}");
    // Two steps are no median.
    let mut few = measured(Truth::small(), 5, &procedure);
    few.compute[0].steps.truncate(2);
    let refused = fit(&few, None).unwrap_err().to_string();
    assert!(refused.starts_with("layers at batch 8: 2 steps were recorded"), "{refused}");
    few.compute[2].steps[0].forward_ns.pop();
    few.compute.remove(0);
    assert!(fit(&few, None).unwrap_err().to_string().contains("expected 12 of each"));
}

#[test]
fn a_profile_of_few_ranks_predicts_more() {
    // Calibrated on two nodes of one rank, held against eight.
    let mut truth = Truth::small();
    (truth.ranks, truth.ranks_per_node) = (2, 1);
    let small = fit(&measured(truth.clone(), 1, &procedure_of(1)), None).unwrap();
    truth.ranks = 8;
    let large = fit(&measured(truth, 2, &procedure_of(2)), None).unwrap();
    let verdict = verify(&small, &[&large]).unwrap();
    assert!(verdict.not_compared.is_empty(), "{:?}", verdict.not_compared);
    let steps = verdict.errors.iter().find(|errors| errors.kind == Kind::Step).unwrap();
    assert!(steps.mean_abs_error_percent < 3.0, "{steps:?}");
}

/// Without groups of two where there are but two ranks.
fn procedure_of(group: u32) -> Procedure {
    let ring = AllReduceEntry::plain(AlgorithmName::Ring);
    let mut all = procedure();
    all.parts.noise = false;
    if group == 1 {
        all.collectives = vec![ring];
        all.variants.retain(|variant| variant.all_reduce == ring);
    }
    all
}

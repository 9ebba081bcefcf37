//! What was recorded, to the nanosecond, and through the simulator.

use foretrain_sim::collective::AlgorithmName;
use foretrain_sim::fusion::{Fusion, gradients};
use foretrain_sim::profile::{AllReduceEntry, FusionEntry};
use foretrain_sim::recording::NumberFormat;
use serde_json::Value;

use super::*;
use crate::measurements::{Measurements, Observation, RecordedStep, Scope};
use crate::profile::fit;
use crate::verify::{Kind, Verdict, verify};

/// `analyse.py resnet50-rank0.json.gz resnet50-rank1.json.gz --json`.
const EXPECTED: &[u8] = include_bytes!("../../../../tests/data/kineto/resnet50-expected.json.gz");

/// `analyse.py gpu-made-up.json.gz --json`.
const EXPECTED_ACCELERATOR: &str =
    include_str!("../../../../tests/data/kineto/gpu-made-up-expected.json");

fn number(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// Every number of `trace` is the other reader's.
fn assert_same(trace: &Trace, expected: &Value) {
    assert_eq!(trace.steps.len(), list(expected).len());
    for (step, expected) in trace.steps.iter().zip(list(expected)) {
        assert_eq!(step.name, expected["step"]);
        let name = &step.name;
        assert_eq!(step.duration_ns as i64, number(expected, "duration"), "{name}");
        let parts = expected["parts"].as_object().unwrap();
        for ((part, ns), expected) in step.parts.named().into_iter().zip(parts.values()) {
            assert_eq!(Some(ns), expected.as_u64(), "{part} of {name}");
        }
        let layers = list(&expected["layers"]);
        assert_eq!(step.layers.len(), layers.len());
        for (index, (layer, expected)) in step.layers.iter().zip(layers).enumerate() {
            let Layer { operation, forward_ns, .. } = layer;
            assert_eq!(expected["name"].as_str().unwrap().split(' ').next(), Some(&**operation));
            let gradients = layer.pieces.iter().map(|piece| piece.gradients.len()).sum::<usize>();
            for (key, found) in [
                ("forward", *forward_ns),
                ("backward", layer.backward_ns()),
                ("bytes", layer.gradient_bytes()),
                ("params", gradients as u64),
            ] {
                assert_eq!(found as i64, number(expected, key), "{key} of {operation} {index}");
            }
        }
        let buckets = list(&expected["buckets"]);
        assert_eq!(step.buckets.len(), buckets.len());
        for (bucket, expected) in step.buckets.iter().zip(buckets) {
            assert_eq!(bucket.launch_ns, expected["launch"].as_u64());
            assert_eq!(Some(bucket.exact), expected["exact"].as_bool());
            for (key, found) in [
                ("nbytes", bucket.bytes as i64),
                ("start", bucket.start_ns),
                ("end", bucket.end_ns),
                ("params", bucket.tensors as i64),
                ("unpack", bucket.unpack_ns as i64),
            ] {
                assert_eq!(found, number(expected, key), "{key} of {name}");
            }
        }
    }
}

#[test]
fn steps_are_those_of_another_reader() {
    let expected: Value = serde_json::from_str(&text(EXPECTED)).unwrap();
    for ((rank, (_, trace)), expected) in (0..).zip(recorded()).zip(list(&expected)) {
        assert_same(&trace, expected);
        assert_eq!((trace.rank, trace.ranks, trace.left_out), (rank, 2, 0));
        assert_eq!((trace.backend.as_deref(), trace.accelerator), (Some("gloo"), None));
    }
}

#[test]
fn an_accelerator_is_read_by_its_kernels() {
    let trace = read(ACCELERATOR).unwrap();
    let expected: Value = serde_json::from_str(EXPECTED_ACCELERATOR).unwrap();
    assert_same(&trace, &expected[0]);
    assert_eq!(trace.accelerator.as_deref(), Some("NVIDIA A100-SXM4-40GB"));
    assert_eq!(trace.nccl_version.as_deref(), Some("2.21.5"));
    let options = Options { command: "test".to_owned(), ..Options::default() };
    let made = measurements(&[("a".to_owned(), trace)], &options).unwrap();
    assert_eq!(made.machine.transport, "NCCL 2.21.5");
    assert_eq!((made.compute[0].batch, made.machine.ranks), (64, 2));
    let waits = made.observations.iter().any(
        |seen| matches!(seen, Observation::Traced { what, .. } if what.contains("1 of 2 ranks")),
    );
    assert!(waits, "{:?}", made.observations);
}

#[test]
fn parts_add_up() {
    for (_, trace) in recorded() {
        for step in &trace.steps {
            let sum: u64 = step.parts.named().iter().map(|part| part.1).sum();
            assert_eq!(sum, step.duration_ns);
            let forward: u64 = step.layers.iter().map(|layer| layer.forward_ns).sum();
            let backward: u64 = step.layers.iter().map(Layer::backward_ns).sum();
            assert_eq!((forward, backward), (step.parts.forward_ns, step.parts.backward_ns));
        }
    }
}

fn measured(options: &Options) -> Measurements {
    measurements(&recorded(), options).unwrap()
}

#[test]
fn measurements_say_what_was_trained() {
    let all = measured(&Options::default());
    assert_eq!((all.procedure.as_str(), all.measured.as_str()), ("kineto", "2026-11-28T13:18:33Z"));
    assert_eq!((all.machine.device.as_str(), all.machine.transport.as_str()), ("CPU", "gloo"));
    let network = all.network.as_ref().unwrap();
    assert_eq!((network.name.as_str(), network.input), ("ResNet-50 v1.5", [3, 128, 128]));
    assert_eq!((network.precision, network.wire), (NumberFormat::F32, NumberFormat::F32));
    assert_eq!((network.optimizer.as_str(), network.layers.len()), ("sgd", 176));
    // In forward order.
    let names: Vec<&str> = network.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names[..4], ["conv2d_0", "batch_norm_0", "relu_0", "max_pool2d_0"]);
    assert_eq!(names[174..], ["linear_0", "cross_entropy_loss_0"]);
    let convolutions: Vec<&str> =
        names.iter().copied().filter(|name| name.starts_with("conv")).collect();
    let expected: Vec<String> = (0..53).map(|number| format!("conv2d_{number}")).collect();
    assert_eq!(convolutions, expected);
    let fc = &network.layers[174];
    // The weight before the bias.
    let sizes: Vec<u64> = fc.tensors.iter().map(|tensor| tensor.elements).collect();
    assert_eq!(sizes, [2_048_000, 1000]);

    let series = &all.compute[0];
    assert_eq!((series.batch, series.overlap, series.steps.len()), (4, false, 3));
    assert_eq!(series.rank_compute_ns.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
    for (step, recorded) in recorded()[0].1.steps.iter().zip(&series.steps) {
        let Parts { forward_ns, backward_ns, optimizer_ns, exposed_ns, unpack_ns, .. } = step.parts;
        assert_eq!(recorded.step_ns, step.duration_ns);
        assert_eq!(recorded.compute_ns(), forward_ns + backward_ns + optimizer_ns);
        assert_eq!(recorded.exposed_ns, exposed_ns + unpack_ns);
        // Nothing is lost.
        let host = step.parts.before_forward_ns
            + step.parts.before_layers_ns
            + step.parts.between_ns
            + step.parts.after_ns;
        assert_eq!(recorded.rest_ns(), host);
        let unpacked: Vec<u64> = recorded.buckets.iter().map(|bucket| bucket.unpack_ns).collect();
        assert_eq!(unpacked, step.buckets.iter().map(|one| one.unpack_ns).collect::<Vec<_>>());
    }
    let steps = &all.steps[0];
    assert_eq!((steps.ranks, steps.ranks_per_node, steps.overlap), (2, 2, true));
    assert_eq!(steps.all_reduce, AllReduceEntry::plain(AlgorithmName::Ring));
    assert_eq!(steps.periods_s[0], recorded()[0].1.steps[0].duration_ns as f64 / 1e9);
    let batch = Options { batch: Some(7), threads: Some(1), ..Options::default() };
    let all = measured(&batch);
    assert_eq!((all.compute[0].batch, all.steps[0].per_rank_batch), (7, 7));
    assert_eq!((all.machine.device.as_str(), all.machine.threads), ("CPU, 1 thread", 1));
}

#[test]
fn simulated_buckets_are_the_traces() {
    let profile = fit(&measured(&Options::default()), None).unwrap();
    let compute = profile.compute.as_ref().unwrap();
    let times = compute.compute_times(4).unwrap();
    let gradients = gradients(&compute.network(), &times, 4);
    let fusion = Fusion::from(&profile.steps[0].fusion);
    let buckets = fusion.static_buckets(&gradients).unwrap();
    let sizes: Vec<(u64, usize)> =
        buckets.iter().map(|one| (one.bytes.get(), one.gradients.len())).collect();
    let expected =
        [(8_196_000, 2), (31_502_336, 15), (26_255_360, 12), (26_550_272, 51), (9_724_160, 81)];
    assert_eq!(sizes, expected);
    // Each is ready when it was launched, from the start of backward: as far as medians of layers add
    // up to medians of launches, to a percent of backward.
    let backward = times.backward().as_seconds();
    let trace = &recorded()[0].1;
    for (number, bucket) in buckets.iter().enumerate() {
        let launches: Vec<f64> = trace
            .steps
            .iter()
            .map(|step| {
                let parts = &step.parts;
                let before = parts.before_forward_ns + parts.before_layers_ns + parts.forward_ns;
                (step.buckets[number].launch_ns.unwrap() - before) as f64 / 1e9
            })
            .collect();
        let launch = crate::fit::robust::median(&launches);
        let ready = bucket.ready_after.as_seconds();
        assert!((ready - launch).abs() < 0.02 * backward, "{number}: {ready} and {launch}");
    }
}

fn step_error(verdict: &Verdict) -> f64 {
    assert_eq!(verdict.not_compared, Vec::<String>::new());
    let steps = verdict.errors.iter().find(|errors| errors.kind == Kind::Step).unwrap();
    assert_eq!(steps.points, 1);
    steps.max_abs_error_percent
}

#[test]
fn the_simulator_reproduces_the_step() {
    let measured = measured(&Options::default());
    let again = Measurements::read(&measured.to_json().unwrap()).unwrap();
    assert_eq!(again, measured);
    let profile = fit(&measured, None).unwrap();
    profile.check().unwrap();
    let verdict = verify(&profile, &[&profile]).unwrap();
    assert!(step_error(&verdict) < 5.0, "{verdict:?}");
    assert_eq!(verdict.points.len(), 1 + 5);
    // Five sizes of three repeats, a factor of four apart, make no curve.
    assert!(
        measured.observations.contains(&Observation::TrainingSizes { scope: Scope::IntraNode })
    );
    let link = profile.links.intra_node.unwrap();
    assert_eq!((link.ranges.len(), link.ranges[0].latency_us.value), (1, 0.0));
    assert!((0.5..1.0).contains(&link.ranges[0].gbyte_per_s.value), "{link:?}");
    let codes: Vec<&str> = profile.warnings.iter().map(|one| one.code.as_str()).collect();
    assert!(codes.contains(&"training-sizes") && codes.contains(&"traced"), "{codes:?}");
}

#[test]
fn a_step_takes_what_it_takes_without_the_profiler() {
    // The median of ten steps of the same run that were not recorded.
    let options = Options { unprofiled_step: Some(0.8473), ..Options::default() };
    let (plain, scaled) = (measured(&Options::default()), measured(&options));
    let profile = fit(&scaled, None).unwrap();
    assert!((profile.steps[0].step_us.value / 847_300.0 - 1.0).abs() < 1e-6);
    assert!(step_error(&verify(&profile, &[&profile]).unwrap()) < 5.0);
    let ratio = |of: fn(&RecordedStep) -> u64| {
        of(&scaled.compute[0].steps[1]) as f64 / of(&plain.compute[0].steps[1]) as f64
    };
    let factor = ratio(RecordedStep::forward_total_ns);
    assert!((0.8..0.9).contains(&factor), "{factor}");
    for other in [ratio(|step| step.optimizer_ns), ratio(RecordedStep::rest_ns)] {
        assert!((other / factor - 1.0).abs() < 1e-3, "{other} {factor}");
    }
    assert_eq!(ratio(|step| step.exposed_ns), 1.0);
    assert_eq!((&scaled.links, &scaled.collectives), (&plain.links, &plain.collectives));
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
        let options = Options { unprofiled_step: Some(wrong), ..Options::default() };
        let error = measurements(&recorded(), &options).unwrap_err().to_string();
        assert!(error.contains("expected more, in seconds"), "{error}");
    }
}

#[test]
fn one_rank_alone_says_less() {
    let alone = measurements(&recorded()[1..], &Options::default()).unwrap();
    assert_eq!(alone.compute[0].rank_compute_ns.len(), 1);
    let profile = fit(&alone, None).unwrap();
    let warned = profile.warnings.iter().any(|one| one.message.contains("traces of 1 of 2 ranks"));
    assert!(warned, "{:?}", profile.warnings);
    assert!(step_error(&verify(&profile, &[&profile]).unwrap()) < 5.0);
    let FusionEntry::Segments { after } = &alone.steps[0].fusion else { panic!() };
    assert_eq!(after, &["linear_0", "conv2d_48", "conv2d_44", "conv2d_27"]);
}

//! A small run that was made up: two layers whose gradients travel in three buckets, one layer's in two.

use std::fmt::Write;

use foretrain_sim::fusion::{Fusion, gradients};
use foretrain_sim::profile::FusionEntry;

use super::*;
use crate::measurements::Scope;
use crate::profile::fit;
use crate::verify::verify;

const FUNCTION: &str = "autograd::engine::evaluate_function: ";

/// Writes events of one step that begins at `at`, in microseconds.
struct Writer<'a> {
    json: &'a mut String,
    at: u64,
}

impl Writer<'_> {
    fn event(&mut self, category: &str, name: &str, (from, to): (u64, u64), args: &str) {
        let (ts, dur) = (self.at + from, to - from);
        let tid = if name.starts_with("gloo") { "\"gloo\"" } else { "1" };
        let _ = write!(
            self.json,
            ",\n{{\"ph\":\"X\",\"cat\":\"{category}\",\"name\":\"{name}\",\"pid\":1,\"tid\":{tid},\
             \"ts\":{ts}.000,\"dur\":{dur},\"args\":{{{args}}}}}"
        );
    }

    fn annotation(&mut self, name: &str, span: (u64, u64), args: &str) {
        self.event("user_annotation", name, span, args);
    }

    fn operation(&mut self, name: &str, span: (u64, u64), args: &str) {
        self.event("cpu_op", name, span, args);
    }

    fn function(&mut self, name: &str, span: (u64, u64), number: u64) {
        self.operation(
            &format!("{FUNCTION}{name}"),
            span,
            &format!("\"Sequence number\":{number}"),
        );
    }

    /// The gradient of a parameter, and the bucket that it completes, if it does.
    fn accumulate(&mut self, (from, to): (u64, u64), sizes: &str, bucket: Option<u64>) {
        self.operation(&format!("{FUNCTION}torch::autograd::AccumulateGrad"), (from, to), "");
        let of = |sizes: &str| format!("\"Input Dims\":[[{sizes}]],\"Input type\":[\"float\"]");
        self.operation("torch::autograd::AccumulateGrad", (from + 1, from + 2), &of(sizes));
        if let Some(elements) = bucket {
            let args =
                format!("\"Input Dims\":[[[{elements}]],[]],\"Input type\":[\"TensorList\",\"\"]");
            self.operation("c10d::allreduce_", (from + 3, from + 5), &args);
        }
    }
}

/// A trace of `rank` of two, 40 us ahead of the other at each step. Its first linear layer has 4·16 + 4
/// parameters, its second 2·4 + 2, of which the bias travels first and alone. Rank 1 comes last.
pub(super) fn trace(rank: u64) -> String {
    let mut json = format!(
        "{{\"baseTimeNanoseconds\": 1748736000000000000,\n\"host_name\": \"h\",\n\"distributedInfo\": \
         {{\"backend\": \"gloo\", \"rank\": {rank}, \"world_size\": 2}},\n\"traceEvents\": [\n\
         {{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":1,\"tid\":\"\",\"ts\":0,\"args\":{{\"name\":null}}}}"
    );
    for step in 0..5 {
        step_of(&mut Writer { json: &mut json, at: 1000 * step + 40 * rank }, rank, step);
    }
    json + "\n]}\n"
}

fn step_of(w: &mut Writer<'_>, rank: u64, step: u64) {
    let number = 100 * step;
    let shaped = |number: u64, sizes: &str| {
        format!(
            "\"Sequence number\":{number},\"Input Dims\":[{sizes},[]],\"Input type\":[\"float\",\"\"]"
        )
    };
    w.annotation(&format!("ProfilerStep#{step}"), (0, 1000), "");
    w.annotation("DistributedDataParallel.forward", (10, 120), "");
    w.annotation(
        "gloo:broadcast",
        (if rank == 0 { 10 } else { 12 }, 35),
        "\"Input Dims\":[[53]],\"Input type\":[\"long int\"]",
    );
    w.operation("aten::linear", (20, 60), &shaped(number + 1, "[8,16],[4,16]"));
    w.operation("aten::t", (21, 22), &shaped(number + 1, "[4,16]"));
    w.operation("aten::addmm", (23, 59), &shaped(number + 2, "[4]"));
    w.operation("aten::relu_", (65, 80), &shaped(number + 3, "[8,4]"));
    w.operation("aten::linear", (80, 110), &shaped(number + 4, "[8,4],[2,4]"));
    w.operation("aten::addmm", (81, 109), &shaped(number + 5, "[2]"));
    w.operation("aten::mean", (110, 120), &shaped(number + 6, "[8,2]"));
    w.operation("aten::ones_like", (120, 125), "");

    w.function("MeanBackward0", (130, 140), number + 6);
    w.function("AddmmBackward0", (140, 190), number + 5);
    w.accumulate((190, 200), "2", Some(2));
    w.function("TBackward0", (200, 205), number + 4);
    w.accumulate((205, 215), "2,4", Some(8));
    w.function("ReluBackward0", (220, 250), number + 3);
    w.function("AddmmBackward0", (250, 330), number + 2);
    w.accumulate((330, 340), "4", None);
    w.function("TBackward0", (340, 345), number + 1);
    w.accumulate((345, 360), "4,16", Some(68));

    // Each takes 10 us and more for more, once the other rank is there.
    let late = if rank == 0 { 40 } else { 0 };
    for (from, elements, took) in [(195, 2, 10), (230, 8, 11), (350, 68, 22)] {
        let args = format!("\"Input Dims\":[[{elements}]],\"Input type\":[\"float\"]");
        w.annotation("gloo:all_reduce", (from, from + late + took + step % 2), &args);
    }
    for (at, sizes) in [(420, "2"), (425, "2,4"), (430, "4"), (435, "4,16")] {
        let args = format!("\"Input Dims\":[[{sizes}]],\"Input type\":[\"float\"]");
        w.operation("torch.distributed.ddp.reducer::copy_bucket_to_grad", (at, at + 3), &args);
    }
    w.annotation("Optimizer.step#AdamW.step", (450, 950 + step), "");
    w.operation("aten::add_", (460, 470), "");
}

fn both() -> Vec<(String, Trace)> {
    let named = |rank: u64| (format!("rank{rank}.json"), read(trace(rank).as_bytes()).unwrap());
    vec![named(0), named(1)]
}

#[test]
fn a_step_by_hand() {
    let trace = read(trace(0).as_bytes()).unwrap();
    let step = &trace.steps[0];
    assert_eq!(step.start_ns, 1_748_736_000_000_000_000);
    let parts = Parts {
        before_forward_ns: 10_000,
        before_layers_ns: 10_000,
        forward_ns: 110_000,
        backward_ns: 230_000,
        // The last transfer is from 350 to 412.
        exposed_ns: 52_000,
        unpack_ns: 12_000,
        between_ns: 26_000,
        optimizer_ns: 500_000,
        after_ns: 50_000,
    };
    assert_eq!((step.duration_ns, step.parts), (1_000_000, parts));
    let layers: Vec<(&str, u64, u64, u64)> = step
        .layers
        .iter()
        .map(|layer| {
            let Layer { operation, forward_ns, .. } = layer;
            (operation.as_str(), *forward_ns, layer.backward_ns(), layer.gradient_bytes())
        })
        .collect();
    let expected = [
        ("linear", 40_000, 110_000, 272),
        ("relu_", 20_000, 30_000, 0),
        ("linear", 30_000, 80_000, 40),
        ("mean", 20_000, 10_000, 0),
    ];
    assert_eq!(layers, expected);
    let pieces: Vec<(u64, usize, Option<usize>)> = step.layers[2]
        .pieces
        .iter()
        .map(|piece| (piece.backward_ns, piece.gradients.len(), piece.bucket))
        .collect();
    assert_eq!(pieces, [(65_000, 1, Some(0)), (15_000, 1, Some(1))]);
    let buckets: Vec<(u64, usize, bool)> =
        step.buckets.iter().map(|one| (one.bytes, one.tensors, one.exact)).collect();
    assert_eq!(buckets, [(8, 1, true), (32, 1, true), (272, 2, true)]);
    assert_eq!(step.buckets[2].unpack_ns, 6000);
    assert_eq!(step.optimizer.as_deref(), Some("AdamW"));
}

#[test]
fn a_layer_of_two_buckets_stands_there_twice() {
    let all = measurements(&both(), &Options::default()).unwrap();
    let network = all.network.as_ref().unwrap();
    let names: Vec<&str> = network.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["linear_0", "relu_0", "linear_1.1", "linear_1", "mean_0"]);
    assert_eq!((network.name.as_str(), network.input), ("network of 78 parameters", [16, 1, 1]));
    let after = vec!["linear_1".to_owned(), "linear_1.1".to_owned()];
    assert_eq!(all.steps[0].fusion, FusionEntry::Segments { after });
    let step = &all.compute[0].steps[0];
    assert_eq!(step.forward_ns, [40_000, 20_000, 0, 30_000, 20_000]);
    assert_eq!(step.backward_ns, [110_000, 30_000, 15_000, 65_000, 10_000]);
    let profile = fit(&all, None).unwrap();
    let compute = profile.compute.as_ref().unwrap();
    let times = compute.compute_times(8).unwrap();
    let gradients = gradients(&compute.network(), &times, 4);
    let buckets = Fusion::from(&profile.steps[0].fusion).static_buckets(&gradients).unwrap();
    let sizes: Vec<u64> = buckets.iter().map(|bucket| bucket.bytes.get()).collect();
    assert_eq!(sizes, [8, 32, 272]);
}

#[test]
fn transfers_are_without_waiting() {
    let all = measurements(&both(), &Options::default()).unwrap();
    let seconds: Vec<(u64, Vec<f64>)> = all.collectives[0]
        .sizes
        .iter()
        .map(|size| (size.message_bytes, size.seconds.iter().map(|s| 1e6 * s).collect()))
        .collect();
    let near = |found: &[f64], least: f64| {
        let expected = [least, least + 1.0, least, least + 1.0, least];
        found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6)
    };
    for ((bytes, found), (expected_bytes, least)) in
        seconds.iter().zip([(8, 10.0), (32, 11.0), (272, 22.0)])
    {
        assert_eq!(*bytes, expected_bytes);
        assert!(near(found, least), "{bytes}: {found:?}");
    }
    // With the broadcast of 424 bytes, of which 23 us are left without waiting, there are four sizes
    // from 4 to 424 bytes of a message: a curve.
    assert_eq!(all.links[0].scope, Scope::IntraNode);
    let sizes: Vec<u64> = all.links[0].sizes.iter().map(|size| size.message_bytes).collect();
    assert_eq!(sizes, [4, 16, 136, 424]);
    assert!((all.links[0].sizes[3].seconds[0] - 23e-6).abs() < 1e-12);
    let profile = fit(&all, None).unwrap();
    assert!(profile.links.intra_node.as_ref().unwrap().ranges[0].latency_us.value > 3.0);
    let verdict = verify(&profile, &[&profile]).unwrap();
    assert!(verdict.not_compared.is_empty());
    let step = verdict.points.iter().find(|point| point.overlap == Some(true)).unwrap();
    assert!(step.error_percent.abs() < 5.0, "{step:?}");
}

#[test]
fn clocks_of_two_machines_are_not_compared() {
    // An hour ahead, on another machine: the last rank waited for nobody.
    let other = trace(1).replace("1748736000000000000", "1748739600000000000");
    let other = read(other.replace("\"h\"", "\"i\"").as_bytes()).unwrap();
    let two = vec![both().swap_remove(0), ("b".to_owned(), other)];
    let all = measurements(&two, &Options::default()).unwrap();
    assert_eq!((all.links[0].scope, all.machine.ranks_per_node), (Scope::InterNode, 1));
    assert!((all.collectives[0].sizes[2].seconds[0] - 22e-6).abs() < 1e-12);
}

#[test]
fn other_steps_are_left_out() {
    // The first step has another graph, the second no backward pass.
    let json = trace(0);
    let marks: Vec<usize> = json.match_indices("ProfilerStep#").map(|(at, _)| at).collect();
    let (first, second) = (&json[marks[0]..marks[1]], &json[marks[1]..marks[2]]);
    let changed = json
        .replace(first, &first.replace("aten::relu_", "aten::gelu"))
        .replace(second, &second.replace("evaluate_function", "nothing"));
    let trace = read(changed.as_bytes()).unwrap();
    assert_eq!((trace.steps.len(), trace.left_out), (3, 2));
    let all = measurements(&[("a".to_owned(), trace)], &Options::default()).unwrap();
    assert_eq!(all.compute[0].steps.len(), 3);
}

#[test]
fn one_rank_needs_no_buckets() {
    let alone = trace(0)
        .replace("\"world_size\": 2", "\"world_size\": 1")
        .replace("c10d::allreduce_", "c10d::nothing");
    let alone = [("a".to_owned(), read(alone.as_bytes()).unwrap())];
    let all = measurements(&alone, &Options::default()).unwrap();
    assert!(all.links.is_empty() && all.collectives.is_empty());
    assert_eq!((all.steps[0].ranks, all.steps[0].overlap), (1, false));
    let profile = fit(&all, None).unwrap();
    let verdict = verify(&profile, &[&profile]).unwrap();
    assert!(verdict.points[0].error_percent.abs() < 10.0, "{verdict:?}");
    let two = [("a".to_owned(), Trace { ranks: 2, ..alone[0].1.clone() })];
    let error = measurements(&two, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("backward launches no all-reduce"), "{error}");
}

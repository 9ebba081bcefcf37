use super::*;
use crate::forecast::forecast;
use crate::scenario::{Overrides, Scenario};

const NODE: &str = r#"
name = "a run"
[cluster]
accelerator = "a100-sxm4-80gb"
accelerators = 64
accelerators_per_node = 8
intra_node_link = "nvlink3-nvswitch"
inter_node_link = "infiniband-hdr"
nics_per_node = 8
[training]
model = "resnet50"
per_accelerator_batch = 51
epochs = 35
precision = "fp16-mixed"
optimizer = "lars"
evaluate_every_epochs = 4
last_batch = "padded"
epoch_start = "10 ms"
evaluation_start = "200 ms"
batch_norm_group = 4
[compute]
anchor = "26344.1 images/s at 408 on 8"
launch = "graph"
kernels = "fused"
[allreduce]
algorithm = "nccl"
overlap = false
[fusion]
rule = "one-bucket"
[jitter]
variation = "1 %"
[simulation]
steps = 20
"#;

fn case(text: &str) -> Case {
    Scenario::from_toml(text, Overrides::default()).unwrap().cases[0].clone()
}

fn changed(from: &str, to: &str) -> Case {
    assert!(NODE.contains(from), "{from}");
    case(&NODE.replacen(from, to, 1))
}

#[test]
fn an_anchor_of_several_is_met_where_it_was_measured() {
    let of_anchor = changed("accelerators = 64", "accelerators = 8");
    let text = NODE.replacen("accelerators = 64", "accelerators = 8", 1);
    let text = text.replacen("_batch = 51", "_batch = 408", 1);
    let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
    let point = &forecast(&scenario, Engine::Arrays, || ()).unwrap().points[0];
    let rate = point.epoch_images_per_s;
    // The batch-norm group of the run is not that of its anchor, whose batch is large enough: here it
    // is, and the rate is a little lower.
    assert!(rate < 26344.1 && rate > 0.98 * 26344.1, "{rate}");
    let alone = text.replacen("batch_norm_group = 4", "batch_norm_group = 1", 1);
    let scenario = Scenario::from_toml(&alone, Overrides::default()).unwrap();
    let point = &forecast(&scenario, Engine::Arrays, || ()).unwrap().points[0];
    assert!((point.epoch_images_per_s / 26344.1 - 1.0).abs() < 1e-6, "{point:?}");
    // Work is scaled the same wherever the point is.
    let factor = |case: &Case| case.device.unwrap().factor;
    assert!((factor(&of_anchor) / factor(&case(NODE)) - 1.0).abs() < 1e-12);
}

#[test]
fn parts_add_up_to_the_whole_run() {
    for text in [
        NODE.to_owned(),
        NODE.replacen(" on 8", "", 1).replacen("26344.1", "3300", 1),
        NODE.replacen("anchor = \"26344.1 images/s at 408 on 8\"\n", "", 1),
    ] {
        let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
        let point = &forecast(&scenario, Engine::Arrays, || ()).unwrap().points[0];
        let explained = explain(&scenario.cases[0], Engine::Arrays).unwrap();
        let sum: f64 = explained.parts.iter().map(|part| part.ms).sum();
        assert!((explained.perfect_ms + sum - explained.ms).abs() < 1e-9);
        let whole = 35.0 * 1_281_167.0 / (60.0 * point.time_to_train_min.unwrap());
        assert!((explained.images_per_s / whole - 1.0).abs() < 1e-9, "{explained:?}");
        let last = explained.parts.last().unwrap();
        assert_eq!((last.part, last.images_per_s), (Part::Evaluations, explained.images_per_s));
    }
}

#[test]
fn perfect_scaling_is_the_anchors_rate_on_every_accelerator() {
    let explained = explain(&case(NODE), Engine::Arrays).unwrap();
    assert_eq!(explained.reference, "the anchor, 26344.1 images/s at 408 on 8");
    assert!((explained.perfect_images_per_s / (8.0 * 26344.1) - 1.0).abs() < 1e-6);
    let parts: Vec<Part> = explained.parts.iter().map(|part| part.part).collect();
    let all = Part::ALL.into_iter().filter(|part| *part != Part::InputWait);
    assert_eq!(parts, all.collect::<Vec<_>>());
}

#[test]
fn what_a_run_leaves_out_explains_nothing() {
    let case = changed("variation = \"1 %\"", "variation = \"0 %\"");
    let explained = explain(&case, Engine::Arrays).unwrap();
    assert!(explained.parts.iter().all(|part| part.part != Part::StragglerWait));
}

#[test]
fn epochs_have_whole_steps_where_the_last_batch_is_padded() {
    // 1,281,167 / 3264 = 392.5.
    let padded = case(NODE);
    assert_eq!(padded.steps_per_epoch(), 393.0);
    assert_eq!(changed("\"padded\"", "\"dropped\"").steps_per_epoch(), 392.0);
    let carried = changed("\"padded\"", "\"carried\"");
    assert_eq!(carried.steps_per_epoch(), 1_281_167.0 / 3264.0);
    assert!((padded.epoch_s(0.02) - (393.0 * 0.02 + 0.01)).abs() < 1e-12);
    assert_eq!(padded.evaluations(), 9.0);
    // 16 batches of 3264 images, forward; then NCCL's smallest all-reduce, some tens of microseconds.
    // Nobody agrees on statistics there.
    let alone = changed("batch_norm_group = 4", "batch_norm_group = 1");
    let forward_s = 16.0 * alone.compute.forward().as_seconds();
    let rest = padded.evaluation_s().unwrap() - 0.2 - forward_s;
    assert!((10e-6..200e-6).contains(&rest), "{rest}");
    // A batch larger than all images is a step all the same.
    let text = NODE.replacen("anchor = \"26344.1 images/s at 408 on 8\"", "", 1);
    let tiny = case(&text.replacen("epochs = 35", "epochs = 35\nimages = 100", 1));
    assert_eq!(tiny.steps_per_epoch(), 1.0);
}

#[test]
fn an_anchor_is_met_where_input_limits_faster_accelerators() {
    // Batches come every 100 ms, the roofline's step takes less, and the anchor's 124 ms.
    let input = "[input]\ndecode = \"32640 images/s\"\nworkers_per_node = 1\n[simulation]";
    let text = NODE.replacen("[simulation]", input, 1);
    let text = text.replacen("accelerators = 64", "accelerators = 8", 1);
    let text = text.replacen("_batch = 51", "_batch = 408", 1);
    let text = text.replacen("batch_norm_group = 4", "batch_norm_group = 1", 1);
    let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
    let point = &forecast(&scenario, Engine::Arrays, || ()).unwrap().points[0];
    assert!((point.epoch_images_per_s / 26344.1 - 1.0).abs() < 1e-5, "{point:?}");
    // Twice the rate no input gives.
    let fast = text.replacen("26344.1", "52688", 1);
    let error = Scenario::from_toml(&fast, Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("less than launches, communication, input"), "{error}");
}

#[test]
fn dropped_images_are_not_counted() {
    let dropped = changed("\"padded\"", "\"dropped\"");
    assert_eq!(dropped.epoch_images(), 392.0 * 3264.0);
    assert_eq!(case(NODE).epoch_images(), 1_281_167.0);
}

#[test]
fn anchors_of_several_that_cannot_be_say_why() {
    let error = |from: &str, to: &str| {
        let text = NODE.replacen(from, to, 1);
        Scenario::from_toml(&text, Overrides::default()).unwrap_err().to_string()
    };
    let fast = error("26344.1", "26344100");
    assert!(fast.contains("less than launches, communication, input and the start"), "{fast}");
    let large = error("at 408 on 8", "at 40800 on 8");
    assert!(large.contains("compute.anchor`: its 8 accelerators: `training.per"), "{large}");
    let both = error("launch = \"graph\"", "roofline_factor = \"1.5 x\"");
    assert!(both.contains("given beside an anchor"), "{both}");
    let none = error("batch_norm_group = 4", "batch_norm_group = 0");
    assert!(none.contains("training.batch_norm_group"), "{none}");
}

//! torchvision's ResNets and AlexNet-BN: evaluation, and a training step.

use foretrain_sim::workload::Architecture;
use foretrain_trainer::checkpoint::{
    TensorKind, Tensors, load_weights, model_tensors, save_weights,
};
use foretrain_trainer::executor::cpu::Element;
use foretrain_trainer::executor::{Executor as _, Mode, RunningStatistics};
use foretrain_trainer::model;
use serde_json::Value;

use crate::rank::{Rank, Task};
use crate::{distance, fixture, formula, number, numbers, rows, sizes};

fn task(architecture: Architecture, input_shape: &Value) -> Task {
    let shape = sizes(input_shape);
    Task { architecture, side: shape[2] as u64, classes: 1000, batch: shape[0], span: 0 }
}

/// The logits of a fixture's evaluation; `reference` is the precision that it was computed in.
fn check_logits<E: Element>(rank: &mut Rank<E>, evaluation: &Value, tolerance: f64) {
    rank.load(0);
    rank.forward(Mode::Evaluate);
    let logits = rank.executor.logits();
    let images = evaluation["f64"].as_array().unwrap();
    assert_eq!(logits.len(), images.len() * 1000);
    for (logits, expected) in logits.chunks_exact(1000).zip(images) {
        let norm = number(&expected["norm"]);
        let found = logits.iter().map(|logit| logit * logit).sum::<f64>().sqrt();
        assert!((found / norm - 1.0).abs() < tolerance, "norm {found}, expected {norm}");
        // Relative to what a logit typically is: small ones are differences of large numbers.
        let typical = norm / 1000_f64.sqrt();
        for (found, expected) in logits.iter().zip(numbers(&expected["first"])) {
            let error = (found - expected).abs() / typical;
            assert!(error < tolerance, "logit {found}, expected {expected}: {error:e}");
        }
    }
}

fn evaluation(architecture: Architecture, file: &str, name: &str) {
    let fixture = fixture(file);
    let evaluation = &fixture[name];
    let task = task(architecture, &evaluation["input_shape"]);
    check_logits(&mut Rank::<f64>::new(task), evaluation, 1e-10);
    let mut single = Rank::<f32>::new(task);
    take_weights_from_a_file(&mut single);
    check_logits(&mut single, evaluation, 1e-4);
}

/// The formula's tensors, written and read back as a file of weights with torchvision's names.
fn take_weights_from_a_file(rank: &mut Rank<f32>) {
    let expected = model_tensors(&rank.network);
    let tensors: Tensors = expected
        .iter()
        .map(|tensor| {
            let device = &candle_core::Device::Cpu;
            let value = if tensor.kind == TensorKind::Counter {
                candle_core::Tensor::new(0_i64, device)
            } else {
                let values = formula::parameter(&tensor.name, &tensor.shape);
                let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
                candle_core::Tensor::from_vec(values, tensor.shape.as_slice(), device)
            };
            (tensor.name.clone(), value.unwrap())
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    save_weights(&path, &tensors).unwrap();
    let read = load_weights(&path, &expected).unwrap();
    let weights = model::Weights::from_tensors(&rank.plan, &read).unwrap();
    for id in rank.plan.parameter_ids() {
        // The formula's weights must not be what the executor has from before.
        let zeros = vec![0.0; weights.of(id).len()];
        rank.executor.load_weights(id, &zeros).unwrap();
        rank.executor.load_weights(id, weights.of(id)).unwrap();
    }
    for (index, norm) in rank.plan.batch_norms().iter().enumerate() {
        let of = |part: &str| {
            model::elements(&read, &format!("{}.{part}", norm.name), norm.channels).unwrap()
        };
        let statistics =
            RunningStatistics { mean: of("running_mean"), variance: of("running_var") };
        rank.executor.set_running_statistics(index, &statistics).unwrap();
    }
}

/// A training step's loss and gradients; `tolerance` by the fixture's row.
fn check_step<E: Element>(
    architecture: Architecture,
    fixture: &Value,
    loss_tolerance: f64,
    tolerance: impl Fn(&str, &Value) -> f64,
) -> Rank<E> {
    let step = &fixture["step"];
    let mut rank = Rank::<E>::new(task(architecture, &step["input_shape"]));
    rank.load(0);
    rank.forward(Mode::Train);
    let (found, expected) = (rank.loss(), number(&step["loss"]["f64"]));
    let error = (found / expected - 1.0).abs();
    assert!(error < loss_tolerance, "loss {found}, expected {expected}: {error:e}");
    rank.backward(1.0 / rank.batch as f64);
    let rows = rows(&fixture["gradients"]);
    assert_eq!(rows.len(), rank.plan.parameters().len());
    let mut problems = Vec::new();
    for id in rank.plan.parameter_ids() {
        let name = rank.plan.parameters()[id.get()].name.clone();
        let gradient = rank.gradient(id);
        let row = rows[name.as_str()];
        if row["f32_deviation"].is_null() {
            // A bias in front of a batch norm: its gradient is 0 but for rounding.
            let norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!(norm < if E::NAME == "f64" { 1e-12 } else { 1e-4 }, "{name}: norm {norm:e}");
            continue;
        }
        let (found, allowed) = (distance(&gradient, row), tolerance(&name, row));
        if found > allowed {
            problems.push(format!("{name}: {found:e} of the norm, allowed {allowed:e}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    rank
}

/// Running statistics after the step, which are read in single precision.
fn check_running<E: Element>(rank: &Rank<E>, fixture: &Value, tolerance: f64) {
    let rows = rows(&fixture["running"]);
    assert_eq!(rows.len(), 6);
    for (name, row) in rows {
        let found = distance(&rank.running(name), row);
        assert!(found < tolerance, "{name}: {found:e} of the norm");
    }
}

fn step(architecture: Architecture, file: &str) {
    let fixture = fixture(file);
    let exact = check_step::<f64>(architecture, &fixture, 1e-10, |_, _| 1e-9);
    check_running(&exact, &fixture, 3e-7);
    drop(exact);
    // Another order of sums in single precision is as far from double precision as PyTorch's,
    // but for chance: four times as far is allowed, and never less than some hundred units (6e-8),
    // since a single element of a gradient that cancels may be further off than the whole. Where
    // rounding takes ReLUs to the other side, which ones is chance too, and with that how many
    // tensors are in front of one: then every tensor may be as far off as PyTorch's furthest.
    let flips = number(&fixture["step"]["f32_relu_flips"]) > 0.0;
    let deviations = rows(&fixture["gradients"]).into_values().map(|row| &row["f32_deviation"]);
    let furthest = deviations.filter_map(Value::as_f64).fold(0.0, f64::max);
    let single = check_step::<f32>(architecture, &fixture, 1e-5, |_, row| {
        let deviation = if flips { furthest } else { number(&row["f32_deviation"]) };
        (4.0 * deviation).max(2e-5)
    });
    check_running(&single, &fixture, 2e-5);
}

#[test]
fn resnet50_evaluates_as_torchvisions() {
    evaluation(Architecture::Resnet50, "resnet50", "evaluation_64");
}

#[test]
fn resnet50_evaluates_images_of_imagenet_as_torchvisions() {
    evaluation(Architecture::Resnet50, "resnet50", "evaluation_224");
}

#[test]
fn resnet18_evaluates_as_torchvisions() {
    evaluation(Architecture::Resnet18, "resnet18", "evaluation_64");
}

#[test]
fn resnet50_steps_as_torchvisions() {
    step(Architecture::Resnet50, "resnet50");
}

#[test]
fn resnet18_steps_as_torchvisions() {
    step(Architecture::Resnet18, "resnet18");
}

#[test]
fn alexnet_bn_steps_as_pytorchs() {
    step(Architecture::AlexnetBn { after_pool5: true }, "alexnet_bn");
}

//! A small network in half precision against PyTorch's: `tests/reference/half.json`.
//!
//! Images, weights and the gradient's scale are exact in f16, so that the same numbers in double
//! precision give the reference.

use foretrain_sim::workload::Shape;
use half::f16;
use serde_json::Value;

use super::*;
use crate::plan::Window;

const IMAGES: usize = 8;

/// Activations in forward order, each followed by its gradient.
const ELEMENTS: [usize; 7] = [3 * 256, 16 * 256, 16 * 256, 32 * 64, 32 * 64, 32, 10];

const fn between(from: usize) -> (Operand, Output) {
    let (buffer, gradient) = (BufferId(2 * from), BufferId(2 * from + 1));
    let target = GradientTarget { buffer: gradient, accumulate: false };
    let output = Output { buffer: BufferId(2 * from + 2), gradient: BufferId(2 * from + 3) };
    (Operand { buffer, gradient: Some(target) }, output)
}

fn convolution(from: usize, channels: [usize; 2], sides: [usize; 2], weight: usize) -> Kind {
    let window = Window {
        input_channels: channels[0],
        input_height: sides[0],
        input_width: sides[0],
        output_channels: channels[1],
        output_height: sides[1],
        output_width: sides[1],
        kernel: 3,
        stride: sides[0] / sides[1],
        padding: 1,
        groups: 1,
    };
    let (input, output) = between(from);
    Kind::Convolution { window, input, output, weight: ParameterId(weight), bias: None }
}

fn network<E: Element>() -> CpuExecutor<E> {
    let (input, output) = between(1);
    let norm = Kind::BatchNorm {
        number: 0,
        shape: Shape::new(16, 16, 16),
        input,
        residual: None,
        relu: true,
        output,
        scale: ParameterId(1),
        shift: ParameterId(2),
    };
    let (input, output) = between(3);
    let relu = Kind::Relu { input, output };
    let (input, output) = between(4);
    let pool = Kind::GlobalAveragePool { shape: Shape::new(32, 8, 8), input, output };
    let (input, output) = between(5);
    let (weight, bias) = (ParameterId(4), ParameterId(5));
    let linear = Kind::Linear { inputs: 32, outputs: 10, input, output, weight, bias };
    let kinds = vec![
        convolution(0, [3, 16], [16, 16], 0),
        norm,
        convolution(2, [16, 32], [16, 8], 3),
        relu,
        pool,
        linear,
        Kind::Loss { input: between(6).0 },
    ];
    let filters = |inputs, outputs| {
        let layout = ParameterLayout::Convolution { groups: 1, outputs, inputs, positions: 9 };
        parameter(&[outputs, inputs, 3, 3], layout)
    };
    let matrix = ParameterLayout::Linear { outputs: 10, channels: 32, pixels: 1 };
    let mut parameters = vec![
        filters(3, 16),
        vector(16),
        vector(16),
        filters(16, 32),
        parameter(&[10, 32], matrix),
        vector(10),
    ];
    let names = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "fc.weight", "fc.bias"];
    for (parameter, name) in parameters.iter_mut().zip(names) {
        name.clone_into(&mut parameter.name);
    }
    let norms = vec![BatchNormInfo { name: "bn1".to_owned(), channels: 16 }];
    let elements: Vec<usize> = ELEMENTS.iter().flat_map(|&elements| [elements; 2]).collect();
    let plan = Arc::new(Plan::without_sharing(kinds, &elements, parameters, norms, 10));
    let buckets = Arc::new(Buckets::one(&plan));
    let threads = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let mut executor =
        CpuExecutor::new(Arc::clone(&plan), buckets, batch(IMAGES), threads).unwrap();
    for (id, parameter) in plan.parameter_ids().zip(plan.parameters()) {
        let values = formula::parameter(&parameter.name, &parameter.shape);
        let inside = parameter.from_torch(&rounded(&values));
        executor.load_exact_weights(id, inside.into_iter()).unwrap();
    }
    let images = rounded(&formula::images("input", IMAGES * ELEMENTS[0]));
    let labels: Vec<u32> = formula::labels(IMAGES, 10).into_iter().map(|l| l as u32).collect();
    executor.load_images(&channels_last(&images, 3, 256), &labels).unwrap();
    executor
}

fn rounded(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&value| f16::from_f64(value).to_f64()).collect()
}

/// The loss, and the gradients of the images and of all parameters by name, in PyTorch's order.
fn step<E: Element>(scale: f64) -> (f64, Vec<(String, Vec<f64>)>) {
    let mut executor = network::<E>();
    let plan = Arc::clone(&executor.plan);
    let pass = Pass { gradient_factor: scale / IMAGES as f64, ..TRAIN };
    for instruction in 0..plan.instructions().len() {
        executor.forward(instruction, pass);
    }
    for instruction in (0..plan.instructions().len()).rev() {
        executor.backward(instruction, pass).unwrap();
    }
    let [images] = executor.memory.arena.buffers([Some(BufferId(1))]);
    let images: Vec<f64> = images.iter().map(|value| value.to_real().as_f64()).collect();
    let mut gradients = vec![("input".to_owned(), channels_first(&images, 3, 256))];
    for (id, parameter) in plan.parameter_ids().zip(plan.parameters()) {
        let gradient = parameter.to_torch(&executor.gradient(id).unwrap());
        gradients.push((parameter.name.clone(), gradient));
    }
    for (_, gradient) in &mut gradients {
        gradient.iter_mut().for_each(|value| *value /= scale);
    }
    (executor.loss().loss / IMAGES as f64, gradients)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn half_precision_costs_no_more_than_in_pytorch() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../tests/reference/half.json")).unwrap();
    let scale = fixture["scale"].as_f64().unwrap();
    let (loss, exact) = step::<f64>(scale);
    let expected = fixture["loss"]["f64"].as_f64().unwrap();
    assert!((loss / expected - 1.0).abs() < 1e-12);
    for (name, gradient) in &exact {
        let (found, expected) = (formula::summary(gradient), &fixture["gradients"][name]);
        let size = expected["norm"].as_f64().unwrap();
        for (found, expected) in
            [(found.norm, &expected["norm"]), (found.probe, &expected["probe"])]
        {
            let error = (found - expected.as_f64().unwrap()).abs() / size;
            assert!(error < 1e-12, "{name}: {error:e}");
        }
    }
    let (loss, halves) = step::<f16>(scale);
    assert!((loss / expected - 1.0).abs() < 1e-3, "loss {loss}");
    for ((name, gradient), (_, exact)) in halves.iter().zip(&exact) {
        let found = error(gradient, exact);
        // Both round every activation once, but not the same ones to the same side.
        let allowed = 2.0 * fixture["gradients"][name]["f16_deviation"].as_f64().unwrap();
        assert!(found < allowed, "{name}: {found:e} of the norm, allowed {allowed:e}");
    }
}

/// Norm of the difference over the norm of the second.
fn error(found: &[f64], exact: &[f64]) -> f64 {
    let difference: Vec<f64> = found.iter().zip(exact).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(exact)
}

/// Why the loss is scaled: below 3e-8 a gradient is 0 in f16, and below 6e-5 it loses digits.
#[test]
fn without_loss_scaling_small_gradients_are_lost() {
    // These images are a small part of a global batch of 65,536, by which gradients are divided.
    let ranks = 8192.0;
    let (_, exact) = step::<f64>(1.0 / ranks);
    let (_, unscaled) = step::<f16>(1.0 / ranks);
    let (_, scaled) = step::<f16>(8_388_608.0 / ranks);
    let lost = |gradient: &[f64], exact: &[f64]| {
        let pairs = gradient.iter().zip(exact);
        let lost = pairs.filter(|(found, exact)| **found == 0.0 && **exact != 0.0);
        lost.count() as f64 / exact.len() as f64
    };
    for (((name, unscaled), (_, scaled)), (_, exact)) in unscaled.iter().zip(&scaled).zip(&exact) {
        let without = (lost(unscaled, exact), error(unscaled, exact));
        let with = (lost(scaled, exact), error(scaled, exact));
        println!("{name}: lost share and error {without:?} without scaling, {with:?} with");
        assert!(with.0 < 0.01 && with.1 < 0.03, "{name}: {with:?} with scaling");
        // In front of the pool, where gradients are smallest, what is left is mostly error.
        let least = if name.starts_with("fc") { 3.0 * with.1 } else { 0.5 };
        assert!(without.1 > least, "{name}: {without:?} without scaling");
    }
    assert!(lost(&unscaled[0].1, &exact[0].1) > 0.5, "most of the images' gradients are 0");
}

//! Softmax and cross-entropy against their definition in double precision.

use std::cmp::Ordering;

use super::super::super::arguments::loss::{LossSums, SoftmaxGradient, SoftmaxLoss};
use super::super::super::arguments::optimizer::{StepInput, StepState};
use super::*;

/// What the kernels make of a batch: losses, ranks, gradients.
type Outcome = (Vec<f32>, Vec<u32>, Vec<f32>);

const LOSS_SCALE: f32 = 4096.0;
const RECIPROCAL_BATCH: f32 = 1.0 / 48.0;

fn on_gpu(
    format: NumberFormat,
    logits: &[f32],
    labels: &[u32],
    smoothing: f32,
    blocks: u32,
) -> Outcome {
    let mut memory = Memory::new(logits.len() * 8 + labels.len() * 12 + (1 << 12));
    let (images, classes) = (labels.len() as u32, (logits.len() / labels.len()) as u32);
    let logits_at = memory.put_elements(format, logits);
    let labels_at = memory.put(labels);
    let [losses, ranks] = [(); 2].map(|()| memory.take(labels.len() * 4));
    let gradient = memory.take_elements(format, logits.len());
    let input = StepInput {
        learning_rate: f64::NAN,
        dropout_key: 0,
        first_image: 0,
        reciprocal_batch: RECIPROCAL_BATCH,
    };
    let state = StepState {
        last_learning_rate: f64::NAN,
        skipped_steps: 0,
        loss_scale: LOSS_SCALE,
        good_steps: 0,
        skipped: 0,
        last_loss_scale: f32::NAN,
    };
    let (input, state) = (memory.put(&input.to_bytes()), memory.put(&state.to_bytes()));
    let (logits, labels) = (logits_at, labels_at);
    let loss = SoftmaxLoss { logits, labels, losses, ranks, classes, images, smoothing };
    run(format, &loss, blocks);
    let backward =
        SoftmaxGradient { logits, labels, gradient, input, state, classes, images, smoothing };
    run(format, &backward, blocks);
    let count = images as usize;
    let gradient = memory.get_elements(format, gradient, count * classes as usize);
    (memory.get(losses, count), memory.get(ranks, count), gradient)
}

/// −Σ t ln p and (p − t) of one image in double precision, with t = (1 − s) [i = k] + s/K.
fn definition(logits: &[f32], label: u32, smoothing: f64) -> (f64, Vec<f64>) {
    let logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = largest + logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
    let target = |class| {
        let hit = if class == label as usize { 1.0 - smoothing } else { 0.0 };
        hit + smoothing / logits.len() as f64
    };
    let log_p = logits.iter().map(|z| z - log_sum).enumerate();
    let loss = log_p.clone().map(|(class, log_p)| -target(class) * log_p).sum();
    (loss, log_p.map(|(class, log_p)| log_p.exp() - target(class)).collect())
}

/// The label's place when classes are sorted: what is no number first, then from the largest logit
/// to the smallest, equals by their number.
fn place(logits: &[f32], label: u32) -> u32 {
    if logits[label as usize].is_nan() {
        return u32::MAX;
    }
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    classes.sort_by(|&a, &b| match (logits[a].is_nan(), logits[b].is_nan()) {
        (false, false) => logits[b].partial_cmp(&logits[a]).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    });
    classes.iter().position(|&class| class == label as usize).unwrap() as u32
}

#[test]
fn losses_ranks_and_gradients_are_the_definition() {
    for format in FORMATS {
        for (classes, smoothing) in [(1, 0.0), (2, 0.1), (10, 0.1), (257, 0.0), (1000, 0.1)] {
            for size in [0.25, 12.0, 3000.0] {
                let logits = numbers(format, classes as u64, 4 * classes, size);
                let labels = [0, classes / 2, classes - 1, classes / 3].map(|label| label as u32);
                let (losses, ranks, gradients) = on_gpu(format, &logits, &labels, smoothing, 4);
                let images = logits.chunks(classes).zip(gradients.chunks(classes));
                for (image, (logits, got)) in images.enumerate() {
                    let label = labels[image];
                    let (loss, gradient) = definition(logits, label, f64::from(smoothing));
                    // Single precision rounds z − m, of which none is larger than 2 `size`, and
                    // the result.
                    let roundings = 1.0 + 2.0 * f64::from(size) + loss;
                    let tolerance = 2.0_f64.powi(-22) * roundings;
                    let difference = (f64::from(losses[image]) - loss).abs();
                    assert!(difference < tolerance, "{classes} {size}: {}, {loss}", losses[image]);
                    assert_eq!(ranks[image], place(logits, label));
                    let factor = f64::from(LOSS_SCALE) * f64::from(RECIPROCAL_BATCH);
                    for (got, expected) in got.iter().zip(gradient) {
                        let difference = (f64::from(*got) - expected * factor).abs();
                        let rounding = precision(format) * (expected * factor).abs();
                        // exp(z − m) is as exact as its argument, which is below 32 where p is seen.
                        // The smallest number of f16 is 2⁻²⁴.
                        let of_p = 2.0_f64.powi(-19) * factor;
                        let tolerance = rounding + of_p + 2.0_f64.powi(-24);
                        assert!(difference < tolerance, "{got}, {expected} · {factor}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_batch_is_the_same_on_any_grid() {
    let logits = numbers(NumberFormat::F32, 9, 7 * 300, 5.0);
    let labels = [3, 299, 17, 100, 0, 256, 255];
    let reference = on_gpu(NumberFormat::F32, &logits, &labels, 0.1, 7);
    for blocks in [1, 2, 9] {
        assert_eq!(on_gpu(NumberFormat::F32, &logits, &labels, 0.1, blocks), reference);
    }
}

#[test]
fn equal_logits_are_ranked_by_their_class_and_numbers_after_what_is_none() {
    let nan = f32::NAN;
    for (logits, label) in [
        ([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], 0),
        ([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], 5),
        ([0.0, -0.0, 1.0, 0.0, -1.0, 0.0, 0.0], 3),
        ([nan, 3.0, nan, 1.0, 2.0, nan, 0.0], 4),
        ([nan, 3.0, nan, 1.0, 2.0, nan, 0.0], 2),
        ([nan; 7], 6),
        ([f32::INFINITY, 3.0, f32::NEG_INFINITY, 1.0, f32::INFINITY, 2.0, 0.0], 4),
        ([f32::INFINITY, 3.0, f32::NEG_INFINITY, 1.0, f32::INFINITY, 2.0, 0.0], 2),
    ] {
        for format in FORMATS {
            let (losses, ranks, gradients) = on_gpu(format, &logits, &[label], 0.1, 1);
            assert_eq!(ranks, [place(&logits, label)], "{logits:?}, {label}");
            // What is not finite among the logits is seen in the loss and in the gradient.
            let finite = logits.iter().all(|logit| logit.is_finite());
            assert_eq!(losses[0].is_finite(), finite, "{logits:?}");
            assert_eq!(gradients.iter().all(|value| value.is_finite()), finite, "{logits:?}");
        }
    }
    assert_eq!(place(&[nan, 3.0, nan, 1.0, 2.0], 4), 3);
    assert_eq!(place(&[0.0, -0.0, 1.0], 1), 2);
}

#[test]
fn far_logits_lose_nothing() {
    // ln(e⁰ + e⁻¹²⁰⁰⁰⁰ + e⁻⁶⁰⁰⁰⁰) = 0 in any precision: the losses are the distances.
    for (label, loss) in [(0, 0.0), (1, 120_000.0), (2, 60_000.0)] {
        let logits = [60_000.0, -60_000.0, 0.0];
        let (losses, ranks, gradient) = on_gpu(NumberFormat::F32, &logits, &[label], 0.0, 1);
        assert_eq!((losses[0], ranks[0]), (loss, [0, 2, 1][label as usize]));
        let factor = LOSS_SCALE * RECIPROCAL_BATCH;
        let mut expected = [factor, 0.0, 0.0];
        expected[label as usize] -= factor;
        assert_eq!(gradient, expected);
    }
}

#[test]
fn sums_are_of_all_images_and_are_written() {
    for images in [0, 1, 255, 256, 1000] {
        let losses = numbers(NumberFormat::F32, 5, images, 1e3);
        let ranks: Vec<u32> =
            (0..images as u32).map(|i| if i % 11 == 0 { u32::MAX } else { i % 9 }).collect();
        let mut memory = Memory::new(images * 8 + (1 << 12));
        let sums = memory.take(24);
        let arguments = LossSums {
            losses: memory.put(&losses),
            ranks: memory.put(&ranks),
            sums,
            images: images as u32,
        };
        // What is there of the batch before is not added to.
        for _ in 0..2 {
            run(NumberFormat::F16, &arguments, 1);
        }
        let expected: f64 = losses.iter().copied().map(f64::from).sum();
        let sum = memory.get::<f64>(sums, 1)[0];
        assert!((sum - expected).abs() <= 1e-9, "{sum} is not {expected}");
        let hits = ranks.iter().filter(|rank| **rank == 0).count() as u64;
        let hits_top5 = ranks.iter().filter(|rank| **rank < 5).count() as u64;
        assert_eq!(memory.get::<u64>(sums.add(8), 2), [hits, hits_top5]);
    }
}

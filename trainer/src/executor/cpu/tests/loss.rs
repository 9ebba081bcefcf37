//! Cross-entropy against the composition of candle's logarithm of softmax, and by hand.

use half::f16;
use proptest::prelude::*;

use super::*;

fn layer<E: Element>(classes: usize, labels: &[u32], smoothing: f64, logits: &[f64]) -> Layer<E> {
    let settings = ExecutorSettings { label_smoothing: smoothing, ..batch(labels.len()) };
    let kind = Kind::Loss { input: input(false) };
    let mut layer = Layer::new(kind, (classes, classes), Vec::new(), settings, 1);
    layer.executor.memory.labels = labels.to_vec();
    layer.set(Place::Input, logits);
    layer
}

/// How many of the labels are among the `first` largest logits, by sorting; of equals the first
/// comes first.
fn hits(logits: &[f64], labels: &[u32], classes: usize, first: usize) -> u64 {
    let images = logits.chunks_exact(classes).zip(labels);
    let hit = images.filter(|(logits, label)| {
        let mut order: Vec<u32> = (0..classes as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap());
        order.iter().take(first).any(|class| class == *label)
    });
    hit.count() as u64
}

proptest! {
    #[test]
    fn losses_are_candles(
        classes in 1_usize..=40,
        images in 1_usize..=5,
        smoothing in prop_oneof![Just(0.0), 0.0..0.9],
        factor in 0.01..1000.0,
        size in prop_oneof![Just(1.0), Just(100.0)],
        coarse: bool,
        seed: u64,
    ) {
        let mut logits = values(seed, "logits", images * classes);
        // Coarse ones make equals.
        logits.iter_mut().for_each(|x| *x = size * if coarse { (3.0 * *x).round() } else { *x });
        let draws = values(seed, "labels", images).into_iter();
        let labels: Vec<u32> =
            draws.map(|u| ((u + 1.0) / 2.0 * classes as f64) as u32).collect();
        let mut layer = layer::<f64>(classes, &labels, smoothing, &logits);
        let pass = Pass { gradient_factor: factor, ..TRAIN };
        layer.forward(pass);
        layer.backward(pass);

        let x = leaf(&logits, &[images, classes]);
        let largest = x.max_keepdim(1).unwrap().detach();
        let shifted = x.broadcast_sub(&largest).unwrap();
        let sum = shifted.exp().unwrap().sum_keepdim(1).unwrap();
        let log_softmax = shifted.broadcast_sub(&sum.log().unwrap()).unwrap();
        let mut targets = vec![smoothing / classes as f64; images * classes];
        for (image, &label) in labels.iter().enumerate() {
            targets[image * classes + label as usize] += 1.0 - smoothing;
        }
        let targets = tensor(&targets, &[images, classes]);
        let loss = (log_softmax * targets).unwrap().sum_all().unwrap().neg().unwrap();
        let found = layer.executor.loss();
        // Logits up to 100 are cancelled to losses near 0.
        let expected = loss.to_vec0::<f64>().unwrap();
        prop_assert!((found.loss - expected).abs() < 1e-13 * size * images as f64 + 1e-12 * expected);
        let gradient = (loss * factor).unwrap().backward().unwrap();
        let gradient = flat(gradient.get(&x).unwrap());
        // Their sum is 0, so that single ones can all be nearly 0: within rounding of 1.
        for (found, expected) in layer.get(Place::InputGradient).iter().zip(gradient) {
            prop_assert!((found - expected).abs() < 1e-12 * factor);
        }
        prop_assert_eq!(found.hits, hits(&logits, &labels, classes, 1));
        prop_assert_eq!(found.hits_top5, hits(&logits, &labels, classes, 5));
        // Evaluation does not smooth.
        layer.forward(Pass { mode: Mode::Evaluate, ..pass });
        let plain = layer.executor.loss().loss;
        let found = layer_without_smoothing(classes, &labels, &logits);
        prop_assert_eq!(plain, found);
    }
}

fn layer_without_smoothing(classes: usize, labels: &[u32], logits: &[f64]) -> f64 {
    let mut layer = layer::<f64>(classes, labels, 0.0, logits);
    layer.forward(TRAIN);
    layer.executor.loss().loss
}

/// Training that has left the numbers is for the loss scaler to see, not to stop the kernel.
#[test]
fn logits_that_are_no_numbers_give_losses_that_are_none() {
    for bad in [f64::NAN, f64::INFINITY] {
        let mut layer = layer::<f32>(3, &[0, 1], 0.1, &[bad, 1.0, 2.0, 0.0, 1.0, 0.0]);
        layer.forward(TRAIN);
        layer.backward(TRAIN);
        assert!(!layer.executor.loss().loss.is_finite());
        let gradient = layer.get(Place::InputGradient);
        assert!(gradient[..3].iter().any(|value| value.is_nan()));
        assert!(gradient[3..].iter().all(|value| value.is_finite()));
    }
    // Neither the label's nor one beside it is a hit, not even where all are among the first five.
    for (label, hits_top5) in [(0, 0), (1, 1)] {
        let mut layer = layer::<f32>(2, &[label], 0.0, &[f64::NAN, 1.0]);
        layer.forward(TRAIN);
        let loss = layer.executor.loss();
        assert_eq!((loss.hits, loss.hits_top5), (0, hits_top5), "label {label}");
    }
}

/// exp(1000) is beyond all formats, but the loss is 1000.
#[test]
fn large_logits_do_not_overflow() {
    let mut layer = layer::<f16>(2, &[1], 0.0, &[1000.0, 0.0]);
    layer.forward(TRAIN);
    layer.backward(TRAIN);
    assert_eq!(layer.executor.loss().loss, 1000.0);
    assert_eq!(layer.get(Place::InputGradient), [1.0, -1.0]);
}

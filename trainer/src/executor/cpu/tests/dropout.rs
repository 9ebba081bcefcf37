//! What dropout keeps.

use proptest::prelude::*;

use super::*;

/// 5 images of 7000 elements are three tasks.
const ELEMENTS: usize = 7000;
const IMAGES: usize = 5;

fn layer(rate: f64, images: usize) -> Layer<f64> {
    accumulating(false, rate, images)
}

fn accumulating(accumulate: bool, rate: f64, images: usize) -> Layer<f64> {
    let kind = Kind::Dropout { input: input(accumulate), output: OUTPUT };
    let settings = ExecutorSettings { dropout_rate: rate, ..batch(images) };
    let mut layer = Layer::new(kind, (ELEMENTS, ELEMENTS), Vec::new(), settings, 2);
    layer.set(Place::Input, &vec![1.0; images * ELEMENTS]);
    layer.set(Place::OutputGradient, &vec![1.0; images * ELEMENTS]);
    layer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Elements are 0 or 1/(1 − rate), as many of each as the rate says but for chance.
    #[test]
    fn the_right_share_is_kept_and_scaled_up(rate in 0.05..0.95, dropout_key: u64) {
        let mut layer = layer(rate, IMAGES);
        layer.forward(Pass { dropout_key, ..TRAIN });
        let output = layer.get(Place::Output);
        let kept = output.iter().filter(|&&value| value != 0.0).count() as f64;
        let count = (IMAGES * ELEMENTS) as f64;
        // Six deviations of the binomial distribution: once in 500 million tests.
        let deviation = (rate * (1.0 - rate) * count).sqrt();
        prop_assert!((kept - (1.0 - rate) * count).abs() < 6.0 * deviation, "{kept} of {count}");
        let scale = 1.0 / (1.0 - rate);
        prop_assert!(output.iter().all(|&value| value == 0.0 || value == scale));
    }

    /// Backward lets the same elements pass, without having remembered them.
    #[test]
    fn backward_has_the_mask_of_forward(rate in 0.05..0.95, dropout_key: u64, accumulate: bool) {
        let pass = Pass { dropout_key, ..TRAIN };
        let mut layer = accumulating(accumulate, rate, IMAGES);
        layer.set(Place::InputGradient, &vec![3.0; IMAGES * ELEMENTS]);
        layer.forward(pass);
        layer.backward(pass);
        let before = if accumulate { 3.0 } else { 0.0 };
        let expected: Vec<f64> =
            layer.get(Place::Output).into_iter().map(|value| before + value).collect();
        prop_assert_eq!(layer.get(Place::InputGradient), expected);
    }

    /// A rank's images fare as they do in the global batch.
    #[test]
    fn ranks_drop_what_one_large_batch_drops(dropout_key: u64, first in 0..IMAGES) {
        let mut whole = layer(0.5, IMAGES);
        whole.forward(Pass { dropout_key, ..TRAIN });
        let mut rank = layer(0.5, IMAGES - first);
        rank.forward(Pass { dropout_key, first_image: first as u64, ..TRAIN });
        prop_assert_eq!(&rank.get(Place::Output), &whole.get(Place::Output)[first * ELEMENTS..]);
    }
}

#[test]
fn steps_and_images_drop_different_elements() {
    let mut layer = layer(0.5, 2);
    layer.forward(TRAIN);
    let first = layer.get(Place::Output);
    assert_ne!(first[..ELEMENTS], first[ELEMENTS..]);
    layer.forward(Pass { dropout_key: 8, ..TRAIN });
    assert_ne!(first, layer.get(Place::Output));
}

#[test]
fn without_a_rate_and_in_evaluation_nothing_changes() {
    let values = values(1, "x", 2 * ELEMENTS);
    for (rate, mode) in [(0.0, Mode::Train), (0.5, Mode::Evaluate)] {
        let mut layer = layer(rate, 2);
        layer.set(Place::Input, &values);
        layer.forward(Pass { mode, ..TRAIN });
        assert_eq!(layer.get(Place::Output), values);
    }
}

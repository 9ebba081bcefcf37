//! Formats other than double precision, and the number of threads.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

/// Half of the distance from 1 to the next number: the largest relative error of rounding.
fn unit<E: Element>() -> f64 {
    match E::NAME {
        "f16" => 2_f64.powi(-11),
        "bf16" => 2_f64.powi(-8),
        "f32" => 2_f64.powi(-24),
        _ => 2_f64.powi(-53),
    }
}

/// Unit of the single precision in which f32, f16 and bf16 compute.
const SINGLE: f64 = 1.0 / (1_u64 << 24) as f64;

/// What the layer of `narrow` computes if nothing is rounded but its inputs and weights; of the
/// magnitudes of all numbers if `magnitudes`.
fn exact<E: Element>(narrow: &mut Layer<E>, wide: &mut Layer<f64>, magnitudes: bool) {
    let copy = |values: Vec<f64>| -> Vec<f64> {
        values.into_iter().map(|x| if magnitudes { x.abs() } else { x }).collect()
    };
    for place in [
        Place::Input,
        Place::Residual,
        Place::OutputGradient,
        Place::InputGradient,
        Place::ResidualGradient,
    ] {
        wide.set(place, &copy(narrow.get(place)));
    }
    let weights = &narrow.executor.memory.weights;
    let weights = weights.iter().map(|w| copy(w.iter().map(|w| w.as_f64()).collect()));
    wide.executor.memory.weights = weights.collect();
    wide.forward(TRAIN);
    wide.backward(TRAIN);
}

/// Everything that the layer has written.
fn results<E: Element>(layer: &mut Layer<E>) -> Vec<Vec<f64>> {
    let mut results = vec![layer.get(Place::Output), layer.get(Place::InputGradient)];
    results.extend((0..layer.executor.plan.parameters().len()).map(|index| layer.gradient(index)));
    results
}

/// Sums of products, whatever their order: with n terms, each of which goes through at most n
/// roundings of single precision, the error is at most n u Σ |aᵢ bᵢ| / (1 − n u) (Higham, Accuracy
/// and Stability of Numerical Algorithms, section 3.1); then the result is rounded once to the
/// format, with an error of at most its unit or half the smallest number.
fn products_are_rounded_once<E: Element>(case: &impl Testable, terms: usize) {
    let (mut narrow, mut wide) = (case.layer::<E>(2), case.layer::<f64>(1));
    exact(&mut narrow, &mut wide, true);
    let magnitudes = results(&mut wide);
    exact(&mut narrow, &mut wide, false);
    let expected = results(&mut wide);
    narrow.forward(TRAIN);
    narrow.backward(TRAIN);
    let smallest = if E::NAME == "f16" { 2_f64.powi(-25) } else { 0.0 };
    let of_sum = terms as f64 * SINGLE;
    for ((found, expected), magnitudes) in
        results(&mut narrow).iter().zip(&expected).zip(&magnitudes)
    {
        for ((found, expected), magnitude) in found.iter().zip(expected).zip(magnitudes) {
            let sum = of_sum / (1.0 - of_sum) * magnitude;
            let bound = sum + unit::<E>() * (expected.abs() + sum) + smallest;
            assert!((found - expected).abs() <= bound, "{found}, expected {expected} ± {bound}");
        }
    }
}

/// Terms of the longest sum in a convolution: an output's with its bias, a data gradient's with
/// what was there, or a filter gradient's.
fn terms(case: &convolution::Case) -> usize {
    let window = &case.window;
    let of_input = window.kernel * window.kernel * window.group_outputs();
    (window.depth().max(of_input) + 1).max(case.batch * window.output_pixels())
}

fn same_bits<E: Element>(case: &impl Testable) {
    let bits = |threads| {
        let mut layer = case.layer::<E>(threads);
        layer.forward(TRAIN);
        layer.backward(TRAIN);
        layer.bits()
    };
    let one = bits(1);
    assert_eq!(bits(2), one, "{}, 2 threads", E::NAME);
    assert_eq!(bits(3), one, "{}, 3 threads", E::NAME);
}

fn same_bits_in_all_formats(case: &impl Testable) {
    same_bits::<f64>(case);
    same_bits::<f32>(case);
    same_bits::<f16>(case);
    same_bits::<bf16>(case);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn convolutions_are_rounded_once(case in convolution::cases()) {
        let terms = terms(&case);
        products_are_rounded_once::<f32>(&case, terms);
        products_are_rounded_once::<f16>(&case, terms);
        products_are_rounded_once::<bf16>(&case, terms);
    }

    #[test]
    fn linear_layers_are_rounded_once(case in fully_connected::cases()) {
        let terms = (case.channels * case.pixels).max(case.outputs).max(case.batch) + 1;
        products_are_rounded_once::<f32>(&case, terms);
        products_are_rounded_once::<f16>(&case, terms);
        products_are_rounded_once::<bf16>(&case, terms);
    }

    #[test]
    fn threads_change_no_bit(
        convolution in convolution::cases(),
        norm in batch_norm::cases(),
        linear in fully_connected::cases(),
        pool in pools::cases(),
    ) {
        same_bits_in_all_formats(&convolution);
        same_bits_in_all_formats(&norm);
        same_bits_in_all_formats(&linear);
        same_bits_in_all_formats(&pool);
    }
}

#[test]
fn large_layers_are_rounded_once_and_alike_on_all_threads() {
    for (_, case) in convolution::large() {
        products_are_rounded_once::<f32>(&case, terms(&case));
        products_are_rounded_once::<f16>(&case, terms(&case));
        same_bits_in_all_formats(&case);
    }
    same_bits_in_all_formats(&batch_norm::LARGE);
}

/// Sums over the rows of a part, here 2¹⁴ / 12 = 1365, are added one by one: their roundings are
/// independent, so that the error is about √1365 = 37 units of single precision (measured: 19); 64
/// are allowed. Halves are rounded once more.
fn batch_norms_are_close<E: Element>(case: &batch_norm::Case) {
    let (mut narrow, mut wide) = (case.layer::<E>(2), case.layer::<f64>(1));
    exact(&mut narrow, &mut wide, false);
    narrow.forward(TRAIN);
    narrow.backward(TRAIN);
    let tolerance = unit::<E>() + 64.0 * SINGLE;
    for (found, expected) in results(&mut narrow).iter().zip(results(&mut wide)) {
        assert_within(E::NAME, found, &expected, tolerance);
    }
}

/// Without ReLU: rounding takes some values to its other side.
#[test]
fn batch_norms_are_rounded_little() {
    let case = batch_norm::Case { relu: false, ..batch_norm::LARGE };
    batch_norms_are_close::<f32>(&case);
    batch_norms_are_close::<f16>(&case);
    batch_norms_are_close::<bf16>(&case);
}

//! Gaussian gradients whose noise scale is known.

use proptest::prelude::*;
use rand_distr_free::Normal;

use super::*;
use crate::random::{Stream, Streams};

/// Normal numbers by Box and Muller.
mod rand_distr_free {
    use super::Stream;
    use rand::Rng;

    pub(super) struct Normal(pub(super) Stream);

    impl Normal {
        fn uniform(&mut self) -> f64 {
            ((self.0.next_u64() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
        }

        pub(super) fn draw(&mut self) -> f64 {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            radius * (std::f64::consts::TAU * self.uniform()).cos()
        }
    }
}

const PARAMETERS: usize = 30;
const RANKS: usize = 2;
const LOCAL: f64 = 8.0;
const IMAGES: Images = Images { local: LOCAL, averaged: LOCAL * RANKS as f64 };
/// Of an image and a parameter.
const DEVIATION: f64 = 1.0;
const NOISE: f64 = DEVIATION * DEVIATION * PARAMETERS as f64;

/// A run whose true gradient is `length` long and falls by a factor of `fall` from the first step to the last, and wobbles
/// from step to step with memory, as that of a training does; and its true critical batch.
fn run(steps: usize, length: f64, fall: f64, normal: &mut Normal) -> (Vec<SquaredNorms>, f64) {
    let (mut wobble, mut squared_sum, mut noise_sum) = (0.0, 0.0, 0.0);
    let norms = (0..steps).map(|step| {
        wobble = 0.8 * wobble + 0.06 * normal.draw();
        let length = length * fall.powf(-(step as f64) / steps as f64) * (1.0_f64 + wobble);
        let each = length / (PARAMETERS as f64).sqrt();
        let expected = length * length + NOISE / IMAGES.averaged;
        squared_sum += length * length / expected;
        noise_sum += NOISE / expected;
        let mut average = [0.0; PARAMETERS];
        let mut local = 0.0;
        for _ in 0..RANKS {
            for sum in &mut average {
                let value = each + DEVIATION / LOCAL.sqrt() * normal.draw();
                local += value * value / RANKS as f64;
                *sum += value / RANKS as f64;
            }
        }
        SquaredNorms { local, averaged: average.iter().map(|value| value * value).sum() }
    });
    let norms = norms.collect();
    (norms, noise_sum / squared_sum)
}

fn normal(name: &str) -> Normal {
    Normal(Streams::new(1).stream(name, "test of the noise scale"))
}

#[test]
fn a_known_noise_scale_comes_out() {
    let (norms, truth) = run(40_000, 0.5, 1.0, &mut normal("constant"));
    assert!((truth - NOISE / 0.25).abs() < 0.03 * truth, "{truth}");
    let found = critical_batch(IMAGES, std::slice::from_ref(&norms)).unwrap();
    assert!((found.value / truth).ln().abs() < 0.05, "{} for {truth}", found.value);
    assert!(found.low <= truth && truth <= found.high && found.high / found.low < 1.2);
    let simple = SquaredNorms::mean(norms).gradient(IMAGES);
    assert!((simple.noise / NOISE).ln().abs() < 0.01, "{}", simple.noise);
    assert!((simple.noise_scale() / truth).ln().abs() < 0.05);
}

/// A run whose noise scale grows thirtyfold: the plain ratio of sums is far from what counts.
#[test]
fn a_noise_scale_that_grows_is_weighted_by_progress() {
    let (norms, truth) = run(40_000, 3.0, 30_f64.sqrt(), &mut normal("growing"));
    let found = critical_batch(IMAGES, std::slice::from_ref(&norms)).unwrap();
    assert!((found.value / truth).ln().abs() < 0.08, "{} for {truth}", found.value);
    let plain = SquaredNorms::mean(norms).gradient(IMAGES).noise_scale();
    assert!(plain < 0.8 * truth, "{plain} for {truth}");
    let scales: Vec<f64> = found.phases.iter().map(|phase| phase.noise_scale.unwrap()).collect();
    assert_eq!(scales.len(), 10);
    assert!(scales[9] > 10.0 * scales[0], "{scales:?}");
}

/// What the whole is about: steps of any batch to the same s, by the differential equation itself.
#[test]
fn the_weighted_mean_predicts_images_at_any_batch() {
    let scale = |s: f64| 100.0 * 20_f64.powf(s);
    // Steps of `batch` until s is 1, each of which advances it by a thousandth of 1/(1 + scale/B).
    let steps = |batch: f64| {
        let (mut s, mut count) = (0.0, 0.0);
        while s < 1.0 {
            s += 1e-4 / (1.0 + scale(s) / batch);
            count += 1.0;
        }
        count
    };
    let (mut s, mut squared, mut noise) = (0.0, 0.0, 0.0);
    let reference = 64.0;
    while s < 1.0 {
        // With S = 1.
        let (s_noise, s_squared) = (1.0, 1.0 / scale(s));
        let expected = s_squared + s_noise / reference;
        squared += s_squared / expected;
        noise += s_noise / expected;
        s += 1e-4 / (1.0 + scale(s) / reference);
    }
    let critical = noise / squared;
    for batch in [8.0, 512.0, 4096.0] {
        let truth = steps(batch) * batch / (steps(reference) * reference);
        let predicted = epochs_ratio(batch, reference, critical);
        assert!((predicted / truth - 1.0).abs() < 1e-3, "{batch}: {predicted} for {truth}");
    }
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    for (name, runs, steps, fall) in
        [("short", 1, 200, 1.0), ("growing", 1, 1000, 3.0), ("seeds", 3, 200, 3.0)]
    {
        let mut normal = normal(name);
        let held = (0..200)
            .filter(|_| {
                let runs: Vec<_> = (0..runs).map(|_| run(steps, 0.5, fall, &mut normal)).collect();
                let truth = runs.iter().map(|(_, truth)| truth).sum::<f64>() / runs.len() as f64;
                let norms: Vec<_> = runs.into_iter().map(|(norms, _)| norms).collect();
                critical_batch(IMAGES, &norms)
                    .is_ok_and(|found| found.low <= truth && truth <= found.high)
            })
            .count();
        assert!((178..=199).contains(&held), "{name}: {held} of 200");
    }
}

#[test]
fn what_says_nothing_is_refused() {
    let norms = SquaredNorms { local: 2.0, averaged: 1.5 };
    let one = Images { local: 8.0, averaged: 8.0 };
    assert_eq!(critical_batch(one, &[vec![norms; 100]]), Err(NoiseScaleError::Images(8.0, 8.0)));
    let short = critical_batch(IMAGES, &[vec![norms; 100], vec![norms; 19]]);
    assert_eq!(short, Err(NoiseScaleError::TooFewSteps(19)));
    assert_eq!(critical_batch(IMAGES, &[]), Err(NoiseScaleError::TooFewSteps(0)));
    // Two ranks whose gradients have nothing in common: the average is half as long.
    let drowned = SquaredNorms { local: 2.0, averaged: 0.9 };
    let error = critical_batch(IMAGES, &[vec![drowned; 100]]).unwrap_err();
    assert!(error.to_string().contains("noise drowns it"), "{error}");
}

proptest! {
    #[test]
    fn ratios_are_those_of_the_law(
        batch in 1.0..1e5_f64, reference in 1.0..1e5_f64, critical in 1.0..1e5_f64,
    ) {
        let epochs = epochs_ratio(batch, reference, critical);
        let rate = learning_rate_ratio(batch, reference, critical);
        prop_assert!((epochs_ratio(reference, batch, critical) * epochs - 1.0).abs() < 1e-12);
        // Epochs times rate over batch: each image moves the weights by what it is worth.
        prop_assert!((epochs * rate * reference / batch - 1.0).abs() < 1e-9);
        // Neither epochs fall nor steps grow with the batch.
        if batch >= reference {
            prop_assert!(epochs >= 1.0 && epochs <= batch / reference * (1.0 + 1e-12));
        }
    }

    #[test]
    fn units_of_gradients_do_not_matter(
        values in prop::collection::vec((0.5..1.5_f64, 0.8..1.2_f64), 20..120),
        factor in 1e-6..1e6_f64,
    ) {
        let norms = |factor: f64| -> Vec<SquaredNorms> {
            let step = |&(local, averaged): &(f64, f64)| SquaredNorms {
                local: factor * (1.0 + local),
                averaged: factor * averaged,
            };
            values.iter().map(step).collect()
        };
        let (one, other) =
            (critical_batch(IMAGES, &[norms(1.0)]), critical_batch(IMAGES, &[norms(factor)]));
        match (one, other) {
            (Ok(one), Ok(other)) => {
                prop_assert!((one.value / other.value - 1.0).abs() < 1e-6);
                prop_assert!(one.low <= one.value && one.value <= one.high);
            }
            (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
        }
    }
}

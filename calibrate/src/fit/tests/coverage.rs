//! How often intervals of 95 % hold the truth.

use foretrain_sim::random::Streams;

use super::super::curve::fit_curve;
use super::super::estimate::{median_estimate, variation_estimate};
use super::super::noise::normal;
use super::{ONE, THREE, TWO, Truth, disturbed, measured, sizes, true_seconds};

/// How many of how many.
#[derive(Default, Clone, Copy)]
struct Share {
    inside: usize,
    all: usize,
}

impl Share {
    fn count(&mut self, inside: bool) {
        self.inside += usize::from(inside);
        self.all += 1;
    }

    fn value(self) -> f64 {
        self.inside as f64 / self.all as f64
    }
}

fn medians(repeats: usize, seeds: u64) -> f64 {
    let mut share = Share::default();
    for seed in 0..seeds {
        let mut stream = Streams::new(seed).stream("medians", "synthetic measurement");
        let seconds: Vec<f64> = (0..repeats).map(|_| disturbed(&mut stream, 1e-3, 0.05)).collect();
        share.count(median_estimate(&seconds).expect("enough values").contains(1e-3));
    }
    share.value()
}

#[test]
fn medians_are_covered() {
    for repeats in [2, 3, 4, 5, 7, 9, 15, 25, 51] {
        let coverage = medians(repeats, 4000);
        println!("median of {repeats}: {coverage:.3}");
        // 4,000 seeds: a standard error of 0.0034. Fewer repeats assume the noise's distribution.
        if repeats >= 7 {
            assert!((0.93..=0.97).contains(&coverage), "{repeats}: {coverage}");
        }
    }
}

/// How often the parts of a curve hold the truth, in many measurements.
struct CurveCoverage {
    curve: Share,
    latency: Share,
    bandwidth: Share,
    segments_found: Share,
    held_out_max: f64,
    refused: usize,
}

/// Measures `truth` once a seed, with 5 % of noise, each size being off the lines by `model_error`.
fn curves(truth: Truth, repeats: usize, model_error: f64, seeds: u64) -> CurveCoverage {
    let mut curve = Share::default();
    let (mut latency, mut bandwidth) = (Share::default(), Share::default());
    let mut segments_found = Share::default();
    let mut held_out_max = 0.0_f64;
    let mut refused = 0;
    for seed in 0..seeds {
        let mut stream = Streams::new(seed).stream("sizes", "model error");
        let mut off = || (model_error * normal(&mut stream)).exp();
        let mut samples = measured(truth, repeats, 0.05, seed);
        for size in &mut samples {
            let off = off();
            size.seconds.iter_mut().for_each(|time| *time *= off);
        }
        let Ok(fit) = fit_curve(&samples, &Streams::new(seed), "synthetic") else {
            refused += 1;
            continue;
        };
        held_out_max = held_out_max.max(fit.held_out.median_abs_relative_error);
        // Where a switch lies between two sizes, nobody can know.
        let switches = |from: u64| truth.iter().any(|part| from < part.0 && part.0 <= 2 * from);
        for from in sizes().take(18).filter(|&from| !switches(from)) {
            let between = (from as f64 * std::f64::consts::SQRT_2) as u64;
            curve.count(fit.estimate(between).contains(true_seconds(truth, between) * off()));
        }
        let found = fit.segments.len() == truth.len();
        segments_found.count(found);
        for (segment, part) in fit.segments.iter().zip(truth).filter(|_| found) {
            latency.count(segment.latency_s.contains(part.1));
            bandwidth.count(segment.seconds_per_byte.contains(part.2.recip()));
        }
    }
    let found = CurveCoverage { curve, latency, bandwidth, segments_found, held_out_max, refused };
    println!(
        "{} segments, {repeats} repeats, model error {model_error}: curve {:.3}, latency {:.3}, \
         bandwidth {:.3}, segments found {:.3}, largest held-out error {:.3}, \
         {refused} refused",
        truth.len(),
        found.curve.value(),
        found.latency.value(),
        found.bandwidth.value(),
        found.segments_found.value(),
        found.held_out_max
    );
    found
}

/// Of curve values 95 of 100 are inside, give or take `tolerance`; of latencies and bandwidths at
/// least 90.
fn check_curves(truth: Truth, repeats: usize, seeds: u64, tolerance: f64) {
    let found = curves(truth, repeats, 0.0, seeds);
    assert!((found.curve.value() - 0.95).abs() <= tolerance, "{}", found.curve.value());
    assert!(found.latency.value() >= 0.9, "{}", found.latency.value());
    assert!(found.bandwidth.value() >= 0.9, "{}", found.bandwidth.value());
    assert!(found.segments_found.value() > 0.98);
    assert!(found.held_out_max <= 0.05);
    assert_eq!(found.refused, 0);
}

// One line has two parameters, so 200 measurements of it are 400 independent trials at most: a
// standard error of 0.011 to 0.015.

#[test]
fn curves_of_one_protocol_are_covered() {
    check_curves(ONE, 51, 200, 0.03);
}

#[test]
fn curves_of_two_protocols_are_covered() {
    check_curves(TWO, 9, 200, 0.03);
}

#[test]
fn curves_of_three_protocols_are_covered() {
    check_curves(THREE, 25, 200, 0.03);
}

#[test]
#[ignore = "takes two minutes"]
fn curves_are_covered() {
    for truth in [ONE, TWO, THREE] {
        for repeats in [9, 25, 51] {
            check_curves(truth, repeats, 1000, 0.02);
        }
    }
}

/// Few repeats, and sizes that lie off the lines by more than noise hides: intervals of the curve
/// hold what a size between the measured ones would take.
#[test]
#[ignore = "takes a minute"]
fn curves_are_covered_with_few_repeats_and_off_the_lines() {
    let least = [
        (1, 0.0, 0.93),
        (2, 0.0, 0.93),
        (3, 0.0, 0.93),
        (5, 0.0, 0.93),
        (7, 0.0, 0.93),
        (1, 0.05, 0.93),
        (25, 0.03, 0.93),
        // So wrong that more segments are fitted than there are protocols.
        (25, 0.1, 0.88),
    ];
    for (repeats, model_error, least) in least {
        let found = curves(TWO, repeats, model_error, 200);
        assert!(found.curve.value() >= least, "{repeats} {model_error}: {}", found.curve.value());
        assert!(found.refused <= 10);
    }
}

#[test]
fn variations_are_covered() {
    for (repeats, variation) in [(25, 0.05), (100, 0.3)] {
        let mut share = Share::default();
        let sigma = f64::ln_1p(variation * variation).sqrt();
        for seed in 0..400 {
            let mut stream = Streams::new(seed).stream("variation", "synthetic measurement");
            let values: Vec<f64> =
                (0..repeats).map(|_| (sigma * normal(&mut stream)).exp()).collect();
            let estimate = variation_estimate(&values, &Streams::new(seed), "v").expect("varies");
            share.count(estimate.contains(variation));
        }
        println!("variation {variation} of {repeats}: {:.3}", share.value());
        // 400 seeds: a standard error of 0.011.
        assert!((0.92..=0.98).contains(&share.value()), "{repeats}: {}", share.value());
    }
}

//! What curves promise beside their coverage: order, scale, switches, refusals.

use foretrain_sim::random::Streams;
use proptest::prelude::*;

use super::super::Refusal;
use super::super::curve::{CurveFit, SizeSamples, fit_curve};
use super::super::series::{Finding, falls};
use super::{KIB, MIB, ONE, THREE, TWO, measured, sizes, true_seconds};

fn fit(samples: &[SizeSamples]) -> Result<CurveFit, Refusal> {
    fit_curve(samples, &Streams::new(1), "test")
}

/// Samples without noise.
fn exact(sizes: &[u64], seconds: impl Fn(u64) -> f64) -> Vec<SizeSamples> {
    let sample =
        |&message_bytes: &u64| SizeSamples { message_bytes, seconds: vec![seconds(message_bytes)] };
    sizes.iter().map(sample).collect()
}

#[test]
fn an_exact_curve_is_found_exactly() {
    let samples = exact(&sizes().collect::<Vec<_>>(), |bytes| true_seconds(TWO, bytes));
    let fit = fit(&samples).expect("a curve");
    // The geometric middle of 16 KiB and 32 KiB.
    assert_eq!(
        fit.segments.iter().map(|segment| segment.from_bytes).collect::<Vec<_>>(),
        [0, 23170]
    );
    for (segment, truth) in fit.segments.iter().zip(TWO) {
        assert!((segment.latency_s.value / truth.1 - 1.0).abs() < 1e-6, "{segment:?}");
        assert!((segment.seconds_per_byte.value * truth.2 - 1.0).abs() < 1e-6, "{segment:?}");
    }
    assert!((fit.seconds(3 * MIB) / true_seconds(TWO, 3 * MIB) - 1.0).abs() < 1e-6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn the_order_of_rows_and_repeats_moves_no_bit(
        seed in 0_u64..1000,
        (rows, repeats) in (
            Just((0..19).collect::<Vec<usize>>()).prop_shuffle(),
            Just((0..9).collect::<Vec<usize>>()).prop_shuffle(),
        ),
    ) {
        let samples = measured(THREE, 9, 0.05, seed);
        // One size in two rows, as two sessions would write it.
        let mut shuffled: Vec<SizeSamples> = rows
            .iter()
            .map(|&row| SizeSamples {
                message_bytes: samples[row].message_bytes,
                seconds: repeats.iter().map(|&repeat| samples[row].seconds[repeat]).collect(),
            })
            .collect();
        let rest = shuffled[0].seconds.split_off(4);
        shuffled.push(SizeSamples { message_bytes: shuffled[0].message_bytes, seconds: rest });
        prop_assert_eq!(fit(&shuffled), fit(&samples));
    }

    #[test]
    fn a_slower_clock_scales_the_curve(seed in 0_u64..1000, scale in 1e-3_f64..1e3) {
        let mut samples = measured(TWO, 9, 0.05, seed);
        let reference = fit(&samples).expect("a curve");
        samples.iter_mut().flat_map(|size| &mut size.seconds).for_each(|time| *time *= scale);
        let scaled = fit(&samples).expect("a curve");
        prop_assert_eq!(scaled.segments.len(), reference.segments.len());
        for bytes in sizes() {
            let (a, b) = (scaled.estimate(bytes), reference.estimate(bytes));
            let pairs: [(f64, f64); 3] = [(a.value, b.value), (a.low, b.low), (a.high, b.high)];
            for (a, b) in pairs {
                prop_assert!((a / (b * scale) - 1.0).abs() < 1e-5, "{} {}", a, b * scale);
            }
        }
    }
}

#[test]
fn a_curve_that_falls_is_kept_and_told() {
    let fit = fit(&measured(THREE, 25, 0.05, 1)).expect("a curve");
    assert!(fit.seconds(2 * MIB) < 0.7 * fit.seconds(MIB));
    match falls(&fit)[..] {
        [Finding::Falls { message_bytes: 1_482_910, .. }] => {}
        ref other => panic!("{other:?}"),
    }
    assert_eq!(falls(&self::fit(&measured(TWO, 25, 0.05, 1)).expect("a curve")), []);
}

#[test]
fn noise_of_small_messages_does_not_blur_large_ones() {
    let mut samples = measured(ONE, 25, 0.1, 1);
    let quiet = measured(ONE, 25, 0.01, 2);
    samples[10..].clone_from_slice(&quiet[10..]);
    let fit = fit(&samples).expect("a curve");
    let bandwidth = fit.segments.last().expect("a segment").seconds_per_byte;
    assert!(bandwidth.contains(1.0 / 50e9) && bandwidth.relative_width() < 0.01, "{bandwidth:?}");
}

#[test]
fn measurements_that_say_too_little_are_refused() {
    let line = |bytes| true_seconds(ONE, bytes);
    let refused = |samples: &[SizeSamples]| fit(samples).expect_err("refused").to_string();

    let text = refused(&exact(&[KIB, 2 * KIB, MIB], line));
    assert!(
        text.starts_with("3 distinct message sizes were measured, expected at least 4"),
        "{text}"
    );

    let text = refused(&exact(&[1000, 2000, 3000, 7999], line));
    assert!(
        text.contains("from 1000 to 7999 bytes") && text.contains("at least 8 times"),
        "{text}"
    );
    assert!(fit(&exact(&[1000, 2000, 4000, 8000], line)).is_ok());

    let text = refused(&exact(&[0, KIB, 2 * KIB, MIB], line));
    assert!(text.starts_with("a message of 0 bytes"), "{text}");

    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let samples =
            exact(&[KIB, 2 * KIB, 4 * KIB, MIB], |b| if b == KIB { bad } else { line(b) });
        let text = refused(&samples);
        assert!(
            text.starts_with(&format!("a time of {bad} s was measured of 1024 bytes")),
            "{text}"
        );
    }

    let mut samples = measured(ONE, 9, 0.05, 1);
    samples[3].seconds.clear();
    assert_eq!(fit(&samples), Err(Refusal::NoTimes { message_bytes: 8 * KIB }));
    samples[3].seconds = vec![1e-5, 2e-5, 1.1e-5];
    let text = refused(&samples);
    assert!(text.contains("3 repeats of 8192 bytes differ by a factor of 2.00"), "{text}");

    let text = refused(&measured(ONE, 7, 3.0, 1));
    assert!(text.contains("expected an interval narrower than the value"), "{text}");

    // Times without any order in the sizes.
    let scrambled = |bytes: u64| if bytes.trailing_zeros().is_multiple_of(2) { 1e-4 } else { 3e-4 };
    let samples: Vec<SizeSamples> = exact(&sizes().collect::<Vec<_>>(), scrambled)
        .into_iter()
        .map(|size| SizeSamples { seconds: vec![size.seconds[0]; 9], ..size })
        .collect();
    let refusal = fit(&samples).expect_err("refused");
    assert!(matches!(refusal, Refusal::HeldOut { .. } | Refusal::TooNoisy { .. }), "{refusal}");
}

//! Values with an interval of 95 %, and how intervals are found.
//!
//! A median's interval lies between two of the sorted values, and is exact for any continuous
//! distribution, however few values there are; a percentile bootstrap of the median has no more
//! information and covers only 87 % with seven values. Other statistics have a studentised
//! bootstrap, whose random numbers depend on the name of what is estimated and not on the order of
//! the values.

pub use foretrain_sim::profile::Estimate;
use foretrain_sim::random::{Stream, Streams};
use rand::Rng;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

use super::robust::{quantile, reject_outliers, sorted};

/// How much of the probability an interval holds.
pub const CONFIDENCE: f64 = 0.95;

/// The probability below an interval's lower end.
pub(super) const LOWER_TAIL: f64 = (1.0 - CONFIDENCE) / 2.0;

/// How many resamples a bootstrap draws: with one less than a thousand, the ends of the interval
/// are the 25th value from either side (Davison and Hinkley, "Bootstrap methods and their
/// application", 1997, section 5.2).
pub(super) const RESAMPLES: usize = 999;

/// `value` with the percentiles of `draws` around it, in any order.
pub(super) fn from_draws(value: f64, draws: &[f64]) -> Estimate {
    let draws = sorted(draws);
    // The value itself always lies inside, also where a bound such as α ≥ 0 skews the draws.
    Estimate {
        value,
        low: quantile(&draws, LOWER_TAIL).min(value),
        high: quantile(&draws, 1.0 - LOWER_TAIL).max(value),
    }
}

/// The median of positive timings in any order, outliers rejected, with its interval; `None`
/// where fewer than two are left or one is not positive.
///
/// From six values on, the interval is Hettmansperger and Sheather's ("Confidence intervals based
/// on interpolated order statistics", Statistics & Probability Letters 4, 1986), in logarithms:
/// between the k-th values from either end lies the median with probability
/// γ(k) = 1 − 2·P(Binomial(n, ½) < k); with γ(k) ≥ 0.95 > γ(k + 1), each end lies between its k-th
/// and next value at λ = (n − k)·I / (k + (n − 2k)·I), I = (γ(k) − 0.95) / (γ(k) − γ(k + 1)).
/// Two to five values cannot hold the median with 95 %; there the noise is taken for lognormal:
/// Student's interval, the median's standard error being √(π/2) times that of the mean.
#[must_use]
pub fn median_estimate(seconds: &[f64]) -> Option<Estimate> {
    if !seconds.iter().all(|value| value.is_finite() && *value > 0.0) {
        return None;
    }
    let kept = reject_outliers(seconds);
    let middle = kept.ln_median();
    let (low, high) = match kept.ln_seconds.len() {
        0 | 1 => return None,
        2..=5 => {
            let half = student_half_width(&kept.ln_seconds)?;
            (middle - half, middle + half)
        }
        _ => order_statistics(&kept.ln_seconds)?,
    };
    Some(Estimate { value: middle.exp(), low: low.exp(), high: high.exp() })
}

/// The interval of the median between `sorted` values, at least six.
fn order_statistics(sorted: &[f64]) -> Option<(f64, f64)> {
    let n = sorted.len();
    let below = Binomial::new(0.5, n as u64).ok()?;
    let held = |k: usize| 1.0 - 2.0 * below.cdf(k as u64 - 1);
    let k = (1..n / 2).take_while(|&k| held(k) >= CONFIDENCE).last()?;
    let excess = (held(k) - CONFIDENCE) / (held(k) - held(k + 1));
    let share = (n - k) as f64 * excess / (k as f64 + (n - 2 * k) as f64 * excess);
    let between = |outer: f64, inner: f64| outer * (1.0 - share) + inner * share;
    Some((between(sorted[k - 1], sorted[k]), between(sorted[n - k], sorted[n - k - 1])))
}

fn student_half_width(values: &[f64]) -> Option<f64> {
    let (_, deviation) = moments(values);
    let n = values.len() as f64;
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let median_error = (std::f64::consts::FRAC_PI_2 / n).sqrt() * deviation;
    Some(student.inverse_cdf(1.0 - LOWER_TAIL) * median_error)
}

/// Mean and standard deviation, of n − 1 degrees of freedom.
pub(crate) fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// A place in 0..`below`, uniform.
pub(super) fn place(stream: &mut Stream, below: usize) -> usize {
    ((u64::from(stream.next_u32()) * below as u64) >> 32) as usize
}

/// A number in (0, 1), uniform.
pub(super) fn uniform(stream: &mut Stream) -> f64 {
    ((stream.next_u64() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// The percentile bootstrap of a statistic of `steps`, which are drawn again as wholes, keyed by
/// `name`; the value itself always lies in its interval.
pub fn percentile_bootstrap<T: Clone>(
    steps: &[T],
    statistic: impl Fn(&[T]) -> f64,
    streams: &Streams,
    name: &str,
) -> Estimate {
    let value = statistic(steps);
    let mut stream = streams.stream(name, "bootstrap of steps");
    let draws: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let again: Vec<T> =
                steps.iter().map(|_| steps[place(&mut stream, steps.len())].clone()).collect();
            statistic(&again)
        })
        .filter(|value| value.is_finite())
        .collect();
    if draws.is_empty() { Estimate::exact(value) } else { from_draws(value, &draws) }
}

/// The studentised bootstrap of a statistic of `values`, in any order, keyed by `name`; `None`
/// where the statistic has no value.
///
/// `statistic` gives the value θ and its standard error e. Of resamples, the quantiles q of
/// (θ* − θ)/e* make the interval from θ − q(0.975)·e to θ − q(0.025)·e (Efron and Tibshirani, "An
/// introduction to the bootstrap", 1993, section 12.5).
pub fn studentised_bootstrap(
    values: &[f64],
    statistic: impl Fn(&[f64]) -> Option<(f64, f64)>,
    streams: &Streams,
    name: &str,
) -> Option<Estimate> {
    // Sorted, so that the interval does not depend on the order in which values arrived.
    let values = sorted(values);
    let (value, error) = statistic(&values)?;
    let mut stream = streams.stream(name, "studentised bootstrap");
    let mut resample = values.clone();
    let mut deviations: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            resample.fill_with(|| values[place(&mut stream, values.len())]);
            let (resampled, error) = statistic(&resample)?;
            (error > 0.0).then(|| (resampled - value) / error)
        })
        .collect();
    deviations.sort_by(f64::total_cmp);
    if deviations.is_empty() {
        return None;
    }
    Some(Estimate {
        value,
        low: value - quantile(&deviations, 1.0 - LOWER_TAIL) * error,
        high: value - quantile(&deviations, LOWER_TAIL) * error,
    })
}

/// Standard deviation over mean of positive `values`, with its interval; `None` for fewer than
/// three values or where all are equal.
///
/// The bootstrap works with ln of the variation, whose influence function is
/// ((x − m)²/s² − 1)/2 − (x − m)/m (from those of the mean m and of the variance s²).
#[must_use]
pub fn variation_estimate(values: &[f64], streams: &Streams, name: &str) -> Option<Estimate> {
    if values.len() < 3 {
        return None;
    }
    let ln_variation = |values: &[f64]| {
        let n = values.len() as f64;
        let (mean, deviation) = moments(values);
        if !(deviation > 0.0 && mean > 0.0) {
            return None;
        }
        let squares: f64 = values
            .iter()
            .map(|value| (value - mean) / deviation)
            .map(|z| ((z * z - 1.0) / 2.0 - z * deviation / mean).powi(2))
            .sum();
        Some(((deviation / mean).ln(), squares.sqrt() / n))
    };
    let ln = studentised_bootstrap(values, ln_variation, streams, name)?;
    Some(Estimate { value: ln.value.exp(), low: ln.low.exp(), high: ln.high.exp() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n = 10: γ(2) = 1 − 2·11/1024 = 0.978515625, γ(3) = 1 − 2·56/1024 = 0.890625, so
    /// I = 0.028515625/0.087890625 = 0.324444…, λ = 8·I/(2 + 6·I) = 0.657657657….
    #[test]
    fn the_interval_lies_between_sorted_values() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let (low, high) = order_statistics(&values).unwrap();
        let share = 0.657_657_657_657_657_6;
        assert!((low - (2.0 + share)).abs() < 1e-12, "{low}");
        assert!((high - (9.0 - share)).abs() < 1e-12, "{high}");
    }

    #[test]
    fn six_values_are_the_fewest_for_order_statistics() {
        // γ(1) = 1 − 2/64 = 0.96875 with six values, 0.9375 with five.
        assert!(order_statistics(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).is_some());
        assert!(order_statistics(&[1.0, 2.0, 3.0, 4.0, 5.0]).is_none());
    }

    #[test]
    fn no_interval_comes_of_one_value_or_of_bad_ones() {
        assert_eq!(median_estimate(&[1.0]), None);
        assert_eq!(median_estimate(&[1.0, f64::NAN, 1.0]), None);
        assert_eq!(median_estimate(&[1.0, 0.0, 1.0]), None);
    }

    #[test]
    fn the_bootstrap_depends_on_the_name_and_on_no_order() {
        let values = [1.0, 1.3, 0.9, 1.1, 1.05, 0.8, 1.2];
        let mut turned = values;
        turned.reverse();
        let estimate = |values: &[f64], name| variation_estimate(values, &Streams::new(1), name);
        assert_eq!(estimate(&values, "a"), estimate(&turned, "a"));
        assert_ne!(estimate(&values, "a"), estimate(&values, "b"));
    }
}

//! Quantiles, medians and the rejection of outliers.
//!
//! Timings err on one side: now and then something else runs and a repeat takes 2 to 10 times as
//! long. Such repeats are rejected before anything else is computed, since even the median moves
//! with them: of one part in twenty it becomes the quantile 0.5/0.95 of the others.

/// A median absolute deviation of normal values times this is their standard deviation:
/// 1/Φ⁻¹(3/4).
pub const NORMAL_PER_MAD: f64 = 1.482_602_218_505_602;

/// How many standard deviations from the median, estimated by the MAD, make an outlier.
///
/// Hampel's three reject 3.6 % of nine good values, since the MAD of so few is less than half the
/// standard deviation once in eight times; that makes intervals too narrow. Six reject 0.5 %, and
/// disturbances are so much slower than noise that six still find them.
const REJECTED_DEVIATIONS: f64 = 6.0;

/// Timings closer than this to their median, relatively, are never outliers: a coarse clock gives
/// more than half of the values the same reading, so that their MAD is zero.
const CLOCK_GRAIN: f64 = 0.02;

/// Of fewer values none is an outlier: two of three that happen to agree do not make the third one
/// wrong.
const FEWEST_TO_REJECT: usize = 5;

/// `values` in ascending order.
#[must_use]
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The quantile at `probability` of `sorted` values, linear between them; NaN where there is none.
///
/// Type 7 of Hyndman and Fan, "Sample quantiles in statistical packages", The American
/// Statistician 50 (1996): value number 1 + (n − 1)·`probability`.
#[must_use]
pub fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = probability.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    let share = place - below as f64;
    // Not `a + (b − a)·share`, which may exceed b by a rounding.
    if share == 0.0 { sorted[below] } else { sorted[below] * (1.0 - share) + sorted[above] * share }
}

/// The median of `values` in any order; NaN where there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The median of the distances of `values` from their median (MAD); NaN where there is no value.
#[must_use]
pub fn median_absolute_deviation(values: &[f64]) -> f64 {
    let middle = median(values);
    median(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())
}

/// What is left of timings once outliers are gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// ln of the timings kept, ascending.
    pub ln_seconds: Vec<f64>,
    /// How many were rejected.
    pub rejected: usize,
}

impl Kept {
    /// ln of the median.
    #[must_use]
    pub fn ln_median(&self) -> f64 {
        quantile(&self.ln_seconds, 0.5)
    }
}

/// Rejects the outliers of positive timings: those whose logarithm is more than six standard
/// deviations, estimated by the MAD, from the median of the logarithms (Hampel, "The influence
/// curve and its role in robust estimation", JASA 69, 1974).
///
/// In logarithms, since what disturbs a timing multiplies it, and the noise of timings is nearer
/// lognormal than normal. On both sides, so that the rejection moves no median of symmetric noise.
#[must_use]
pub fn reject_outliers(seconds: &[f64]) -> Kept {
    let mut ln_seconds = sorted(&seconds.iter().map(|value| value.ln()).collect::<Vec<_>>());
    let middle = quantile(&ln_seconds, 0.5);
    let deviation = NORMAL_PER_MAD * median_absolute_deviation(&ln_seconds);
    let limit = (REJECTED_DEVIATIONS * deviation).max(CLOCK_GRAIN);
    if seconds.len() >= FEWEST_TO_REJECT {
        ln_seconds.retain(|value| (value - middle).abs() <= limit);
    }
    Kept { rejected: seconds.len() - ln_seconds.len(), ln_seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R 4: `quantile(c(1, 2, 4, 8), c(0, .1, .5, .9, 1))`, which is type 7.
    #[test]
    fn quantiles_are_of_type_seven() {
        let values = [1.0, 2.0, 4.0, 8.0];
        for (probability, expected) in [(0.0, 1.0), (0.1, 1.3), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)]
        {
            assert!((quantile(&values, probability) - expected).abs() < 1e-12);
        }
        assert!(quantile(&[], 0.5).is_nan());
    }

    /// Median 2; distances 1, 1, 0, 0, 2, 4, 7, whose median is 1 (the example of Wikipedia's
    /// "Median absolute deviation").
    #[test]
    fn the_deviation_is_the_median_of_distances() {
        assert_eq!(median_absolute_deviation(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), 1.0);
    }

    #[test]
    fn slow_repeats_are_rejected_and_good_ones_kept() {
        let kept = reject_outliers(&[1.0, 1.02, 5.0, 0.98, 1.01, 0.97, 2.1, 1.03, 0.99]);
        assert_eq!((kept.rejected, kept.ln_seconds.len()), (2, 7));
        assert_eq!(kept.ln_median(), 0.0);
    }

    #[test]
    fn a_coarse_clock_makes_no_outliers_of_neighbouring_readings() {
        let kept = reject_outliers(&[1.0, 1.0, 1.0, 1.0, 1.01, 0.99, 3.0]);
        assert_eq!(kept.rejected, 1);
    }
}

//! What repeats, in the order in which they were measured, say about the measurement itself:
//! whether it was warm, whether it drifted, whether repeats are independent, whether one rank is
//! slow and whether larger messages are faster.
//!
//! Each check returns what it saw as a [`Finding`] with its numbers and an advice. Thresholds are in
//! standard deviations and, so that a precise measurement is not blamed for nothing, in parts of the
//! value as well.

use std::fmt;

use serde::Serialize;

use super::curve::CurveFit;
use super::robust::{NORMAL_PER_MAD, median, median_absolute_deviation};

/// So many standard deviations above the others are slow.
const SLOW_DEVIATIONS: f64 = 5.0;

/// So much above the others, relatively, is slow.
const SLOW_SHARE: f64 = 0.05;

/// Trends are found where |z| of Mann and Kendall's test exceeds this: once in 370 series without.
const TREND_Z: f64 = 3.0;

/// The smallest trend from the first to the last repeat worth telling, relatively.
const TREND_SHARE: f64 = 0.02;

/// Dependence is told where the effective number of repeats is below this part of their number.
const DEPENDENT_SHARE: f64 = 0.5;

/// The fewest repeats whose order says anything.
const FEWEST_REPEATS: usize = 8;

/// Longer series are cut into so many blocks, of which the medians are compared in pairs.
const MOST_BLOCKS: usize = 500;

/// What a check saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Finding {
    /// The first repeats are slower than the others.
    WarmUp {
        /// How many.
        slow_repeats: usize,
        /// Of how many.
        repeats: usize,
        /// Their median over that of the others.
        times_slower: f64,
    },
    /// Repeats become slower, or faster.
    Drift {
        /// From the first repeat to the last, over the median.
        relative_change: f64,
        /// Mann and Kendall's z.
        z: f64,
    },
    /// Repeats depend on those before.
    Dependent {
        /// How many.
        repeats: usize,
        /// The correlation of neighbours.
        lag_1: f64,
        /// How many independent repeats would say as much about the mean.
        effective_repeats: f64,
    },
    /// A rank slower than the others.
    SlowRank {
        /// Which.
        rank: u32,
        /// Its median over the median of all ranks.
        times_slower: f64,
        /// How many standard deviations of ranks that is.
        deviations: f64,
    },
    /// A message that takes less time than a smaller one.
    Falls {
        /// The size at which the curve falls.
        message_bytes: u64,
        /// The time just below it.
        before_s: f64,
        /// The time from there on.
        after_s: f64,
    },
}

impl Finding {
    /// Its kind, as profiles have it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WarmUp { .. } => "warm-up",
            Self::Drift { .. } => "drift",
            Self::Dependent { .. } => "dependent",
            Self::SlowRank { .. } => "slow-rank",
            Self::Falls { .. } => "not-monotone",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WarmUp { slow_repeats, repeats, times_slower } => write!(
                f,
                "the first {slow_repeats} of {repeats} repeats took {times_slower:.2} times as long \
                 as the others: warm up for longer, and leave them out"
            ),
            Self::Drift { relative_change, z } => write!(
                f,
                "repeats became {:.1} % {} from the first to the last (z = {z:.1}): measure again \
                 once clocks and temperature are steady",
                relative_change.abs() * 100.0,
                if *relative_change > 0.0 { "slower" } else { "faster" }
            ),
            Self::Dependent { repeats, lag_1, effective_repeats } => write!(
                f,
                "repeats depend on those before (correlation of neighbours {lag_1:.2}), so that \
                 {repeats} say as much as {effective_repeats:.0}: measure longer, or mix the sizes"
            ),
            Self::SlowRank { rank, times_slower, deviations } => write!(
                f,
                "rank {rank} takes {times_slower:.2} times as long as the median rank \
                 ({deviations:.0} standard deviations): check its clocks, cooling and neighbours"
            ),
            Self::Falls { message_bytes, before_s, after_s } => write!(
                f,
                "the time falls from {:.1} us to {:.1} us at {message_bytes} bytes, where the \
                 library changes its protocol: smaller messages would gain by changing earlier",
                before_s * 1e6,
                after_s * 1e6
            ),
        }
    }
}

/// The correlations of `series` with itself 1 to `lags` later; zero where all values are equal.
///
/// r(k) = Σ (x(i) − m)·(x(i+k) − m) / Σ (x(i) − m)² (Box and Jenkins, "Time series analysis").
#[must_use]
pub fn autocorrelation(series: &[f64], lags: usize) -> Vec<f64> {
    let mean = series.iter().sum::<f64>() / series.len() as f64;
    let products = |lag: usize| {
        let pairs = series.iter().zip(series.iter().skip(lag));
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>()
    };
    let squares = products(0);
    (1..=lags).map(|lag| if squares > 0.0 { products(lag) / squares } else { 0.0 }).collect()
}

/// How many independent values would say as much about the mean as `series` does:
/// n / (1 + 2·Σ r(k)), at most n.
///
/// The sum ends before the first pair r(2j) + r(2j+1) that is not positive, the pair of r(0) = 1
/// being the first: from there on there is only noise (Geyer, "Practical Markov chain Monte Carlo",
/// Statistical Science 7, 1992).
#[must_use]
pub fn effective_repeats(series: &[f64]) -> f64 {
    let n = series.len();
    let mut correlations = vec![1.0];
    correlations.extend(autocorrelation(series, n / 2));
    let pairs = correlations.chunks_exact(2).map(|pair| pair[0] + pair[1]);
    let sum: f64 = pairs.take_while(|&sum| sum > 0.0).sum();
    n as f64 / (2.0 * sum - 1.0).max(1.0)
}

/// Whether repeats depend on those before. Trends make them dependent too, so they are taken out.
#[must_use]
pub fn dependence(series: &[f64]) -> Option<Finding> {
    let repeats = series.len();
    if repeats < FEWEST_REPEATS {
        return None;
    }
    let steady = without_trend(series);
    let effective_repeats = effective_repeats(&steady);
    let lag_1 = autocorrelation(&steady, 1)[0];
    // Of independent values r(1) has a standard deviation of 1/√n.
    let is_dependent = effective_repeats < DEPENDENT_SHARE * repeats as f64
        && lag_1 > TREND_Z / (repeats as f64).sqrt();
    is_dependent.then_some(Finding::Dependent { repeats, lag_1, effective_repeats })
}

/// The median of the slopes between all pairs, per repeat (Sen, "Estimates of the regression
/// coefficient based on Kendall's tau", JASA 63, 1968).
#[must_use]
pub fn median_slope(series: &[f64]) -> f64 {
    let slopes: Vec<f64> = (0..series.len())
        .flat_map(|i| (i + 1..series.len()).map(move |j| (series[j] - series[i]) / (j - i) as f64))
        .collect();
    if slopes.is_empty() { 0.0 } else { median(&slopes) }
}

fn without_trend(series: &[f64]) -> Vec<f64> {
    let blocks = block_medians(series);
    let slope = median_slope(&blocks) * blocks.len() as f64 / series.len() as f64;
    series.iter().enumerate().map(|(i, value)| value - slope * i as f64).collect()
}

fn block_medians(series: &[f64]) -> Vec<f64> {
    series.chunks(series.len().div_ceil(MOST_BLOCKS).max(1)).map(median).collect()
}

/// Whether repeats become slower or faster.
///
/// Mann and Kendall's test of S = Σ sign(x(j) − x(i)) over i < j: z = (S ∓ 1)/√V, V =
/// (n(n−1)(2n+5) − Σ t(t−1)(2t+5))/18 with ties of t values, times n over the effective number of
/// repeats once the trend is out (Yue and Wang, "The Mann-Kendall test modified by effective sample
/// size", Water Resources Management 18, 2004).
#[must_use]
pub fn drift(series: &[f64]) -> Option<Finding> {
    if series.len() < FEWEST_REPEATS {
        return None;
    }
    let blocks = block_medians(series);
    let n = blocks.len() as f64;
    let sign =
        |i: usize, j: usize| blocks[j].partial_cmp(&blocks[i]).map_or(0, |order| order as i64);
    let rises: i64 =
        (0..blocks.len()).flat_map(|i| (i + 1..blocks.len()).map(move |j| sign(i, j))).sum();
    let spread = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sorted = blocks.clone();
    sorted.sort_by(f64::total_cmp);
    let ties: f64 = sorted.chunk_by(|a, b| a == b).map(|ties| spread(ties.len() as f64)).sum();
    let variance = (spread(n) - ties) / 18.0 * n / effective_repeats(&without_trend(&blocks));
    if variance <= 0.0 {
        return None;
    }
    let z = (rises - rises.signum()) as f64 / variance.sqrt();
    let relative_change = median_slope(&blocks) * (n - 1.0) / median(&blocks);
    let drifts = z.abs() > TREND_Z && relative_change.abs() > TREND_SHARE;
    drifts.then_some(Finding::Drift { relative_change, z })
}

/// Whether the first repeats are slower than the second half, which is taken for warm.
#[must_use]
pub fn warm_up(series: &[f64]) -> Option<Finding> {
    let repeats = series.len();
    if repeats < FEWEST_REPEATS {
        return None;
    }
    let warm = &series[repeats / 2..];
    let limit = slow_limit(median(warm), median_absolute_deviation(warm));
    let slow_repeats = series.iter().take(repeats / 2).take_while(|&&value| value > limit).count();
    let (slow, others) = series.split_at(slow_repeats);
    let times_slower = median(slow) / median(others);
    (slow_repeats > 0).then_some(Finding::WarmUp { slow_repeats, repeats, times_slower })
}

fn slow_limit(middle: f64, mad: f64) -> f64 {
    middle + (SLOW_DEVIATIONS * NORMAL_PER_MAD * mad).max(SLOW_SHARE * middle)
}

/// Which ranks are slower than the others, of (rank, its times) in any order. With fewer than three
/// ranks nobody knows who is slow.
#[must_use]
pub fn slow_ranks(ranks: &[(u32, Vec<f64>)]) -> Vec<Finding> {
    if ranks.len() < 3 {
        return Vec::new();
    }
    let mut medians: Vec<(u32, f64)> =
        ranks.iter().map(|(rank, times)| (*rank, median(times))).collect();
    medians.sort_by_key(|&(rank, _)| rank);
    let values: Vec<f64> = medians.iter().map(|&(_, value)| value).collect();
    let (middle, mad) = (median(&values), median_absolute_deviation(&values));
    // Ranks that agree to the grain of the clock still differ by something.
    let deviation = (NORMAL_PER_MAD * mad).max(1e-3 * middle);
    let slow = medians.iter().filter(|(_, value)| *value > slow_limit(middle, mad));
    slow.map(|&(rank, value)| Finding::SlowRank {
        rank,
        times_slower: value / middle,
        deviations: (value - middle) / deviation,
    })
    .collect()
}

/// Where a curve falls: at switches whose intervals on both sides do not overlap.
#[must_use]
pub fn falls(fit: &CurveFit) -> Vec<Finding> {
    let switches = fit.segments.iter().skip(1).map(|segment| segment.from_bytes);
    switches
        .filter_map(|message_bytes| {
            let before = fit.estimate(message_bytes.saturating_sub(1));
            let after = fit.estimate(message_bytes);
            (after.high < before.low).then_some(Finding::Falls {
                message_bytes,
                before_s: before.value,
                after_s: after.value,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use foretrain_sim::random::Streams;

    use super::super::noise::normal;
    use super::*;

    fn noisy(count: usize, seed: u64, mean: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut stream = Streams::new(seed).stream("series", "test");
        (0..count)
            .map(|i| mean(i as f64 / count as f64) * (1.0 + 0.02 * normal(&mut stream)))
            .collect()
    }

    /// x(i) = φ·x(i−1) + noise: r(k) = φ^k, so n independent repeats become n·(1 − φ)/(1 + φ).
    fn autoregressive(count: usize, phi: f64, seed: u64) -> Vec<f64> {
        let mut stream = Streams::new(seed).stream("autoregressive", "test");
        let mut x = 0.0;
        let mut next = || {
            x = phi * x + normal(&mut stream);
            1.0 + 0.01 * x
        };
        (0..count).map(|_| next()).collect()
    }

    /// 1, 2, 3, 4: distances −1.5, −0.5, 0.5, 1.5; r(1) = (0.75 − 0.25 + 0.75)/5.
    #[test]
    fn correlations_are_those_of_their_equation() {
        assert_eq!(autocorrelation(&[1.0, 2.0, 3.0, 4.0], 1), [0.25]);
        assert_eq!(autocorrelation(&[2.0; 5], 2), [0.0, 0.0]);
    }

    #[test]
    fn dependent_repeats_say_less() {
        let series = autoregressive(4000, 0.6, 1);
        assert!((autocorrelation(&series, 1)[0] - 0.6).abs() < 0.05);
        assert!((effective_repeats(&series) / 1000.0 - 1.0).abs() < 0.25);
        assert!(matches!(dependence(&series), Some(Finding::Dependent { .. })));
    }

    #[test]
    fn a_slope_is_the_median_of_pairs() {
        assert_eq!(median_slope(&[1.0, 3.0, 5.0, 100.0, 9.0]), 2.0);
    }

    #[test]
    fn steady_series_have_no_findings() {
        let count = |found: fn(&[f64]) -> Option<Finding>| {
            (0..200).filter(|&seed| found(&noisy(50, seed, |_| 1.0)).is_some()).count()
        };
        assert!(count(drift) <= 2 && count(warm_up) == 0 && count(dependence) == 0);
        let wandering = (0..200).filter(|&seed| drift(&autoregressive(100, 0.6, seed)).is_some());
        assert!(wandering.count() <= 6);
    }

    #[test]
    fn a_drift_is_found_with_its_size() {
        for count in [30, 5000] {
            match drift(&noisy(count, 1, |at| 1.0 + 0.1 * at)) {
                Some(Finding::Drift { relative_change, .. }) => {
                    assert!((relative_change - 0.095).abs() < 0.02, "{relative_change}");
                }
                other => panic!("{count}: {other:?}"),
            }
        }
        assert_eq!(dependence(&noisy(100, 1, |at| 1.0 + 0.1 * at)), None);
    }

    #[test]
    fn slow_first_repeats_are_counted() {
        let mut series = noisy(30, 1, |_| 1.0);
        series[..3].copy_from_slice(&[3.0, 2.0, 1.5]);
        let Some(found) = warm_up(&series) else { panic!() };
        let Finding::WarmUp { slow_repeats: 3, repeats: 30, .. } = found else { panic!("{found}") };
        assert!(found.to_string().starts_with("the first 3 of 30 repeats took 2.0"), "{found}");
    }

    #[test]
    fn a_slow_rank_is_named() {
        let mut ranks: Vec<_> =
            (0..8).map(|rank| (rank, noisy(20, rank.into(), |_| 1.0))).collect();
        assert_eq!(slow_ranks(&ranks), []);
        ranks[5].1.iter_mut().for_each(|time| *time *= 1.2);
        let found = slow_ranks(&ranks);
        assert!(matches!(found[..], [Finding::SlowRank { rank: 5, .. }]), "{found:?}");
        ranks.reverse();
        assert_eq!(slow_ranks(&ranks), found);
    }

    #[test]
    fn findings_have_codes() {
        let found = Finding::SlowRank { rank: 5, times_slower: 1.25, deviations: 9.0 };
        let json = serde_json::to_string(&found).expect("serialises");
        assert_eq!(json, r#"{"code":"slow-rank","rank":5,"times_slower":1.25,"deviations":9.0}"#);
    }
}

//! How far repeats scatter, how far that moves their medians, and what scatter is left over.
//!
//! The plain bootstrap, which resamples the repeats of one size, takes the standard deviation of a
//! median for too large: by 22 % with 9 repeats, and still by 11 % with 51. So the repeats of all
//! sizes are pooled here: one shape of noise, from hundreds of repeats, times the scale of each
//! size.

use std::collections::BTreeMap;

use foretrain_sim::random::Stream;
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

use super::estimate::{LOWER_TAIL, moments, uniform};
use super::robust::{Kept, NORMAL_PER_MAD, median, median_absolute_deviation, quantile};

/// A scale has at least so many degrees of freedom, from the neighbours of a size if it has too few
/// repeats of its own: with 16 the interval of a mean would be 8 % wider than with infinitely many.
const SCALE_FREEDOM: usize = 16;

/// The model counts as wrong where its residuals would be as large in fewer than this part of all
/// measurements if it were right.
const MODEL_REJECTED: f64 = 0.05;

/// Sizes that are left out show a model error where their residuals have more than this times the
/// variance that noise gives them: with 20 sizes, noise alone does so about once in 20.
const HELD_OUT_EXCESS: f64 = 2.0;

/// The noise of single repeats.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Noise {
    /// The standard deviation of ln t of one repeat, from the pooled MAD; 0 without repeats.
    pub(super) deviation: f64,
    /// The standard deviation of ln t of one repeat, at each size.
    scales: Vec<f64>,
    /// Repeats from the median, in their standard deviations, of all sizes, ascending; empty
    /// without repeats.
    shape: Vec<f64>,
}

impl Noise {
    /// The noise of the repeats of `sizes`, ascending in size.
    pub(super) fn pooled(sizes: &[Kept]) -> Self {
        // Distances from the mean, and not from the median, since they can be given the variance of
        // the noise exactly: that of n values around their mean is (n − 1)/n of it.
        let distances = |kept: &Kept| -> Vec<f64> {
            let n = kept.ln_seconds.len() as f64;
            let (mean, _) = moments(&kept.ln_seconds);
            let scale = if n > 1.0 { (n / (n - 1.0)).sqrt() } else { return Vec::new() };
            kept.ln_seconds.iter().map(|value| (value - mean) * scale).collect()
        };
        let distances: Vec<Vec<f64>> = sizes.iter().map(distances).collect();
        let scales: Vec<f64> = (0..sizes.len()).map(|at| scale(&distances, at)).collect();
        let mut shape: Vec<f64> = distances
            .iter()
            .zip(&scales)
            .filter(|(_, scale)| **scale > 0.0)
            .flat_map(|(distances, scale)| distances.iter().map(move |distance| distance / scale))
            .collect();
        shape.sort_by(f64::total_cmp);
        let middle = quantile(&shape, 0.5);
        shape.iter_mut().for_each(|distance| *distance -= middle);
        let all = distances.concat();
        let deviation =
            if all.is_empty() { 0.0 } else { NORMAL_PER_MAD * median_absolute_deviation(&all) };
        Self { deviation, scales, shape }
    }
}

/// The root mean square of the distances of size number `at` and of as many neighbours on either
/// side as it takes, since noise changes little from one size to the next.
fn scale(distances: &[Vec<f64>], at: usize) -> f64 {
    let mut reach = 0;
    loop {
        let window = &distances[at.saturating_sub(reach)..(at + reach + 1).min(distances.len())];
        let freedom: usize = window.iter().map(|distances| distances.len().saturating_sub(1)).sum();
        if freedom >= SCALE_FREEDOM || window.len() == distances.len() {
            let count = window.iter().map(Vec::len).sum::<usize>().max(1) as f64;
            return (window.iter().flatten().map(|d| d * d).sum::<f64>() / count).sqrt();
        }
        reach += 1;
    }
}

/// How the medians of sizes would have come out in other measurements.
pub(super) struct MedianDraws<'a> {
    noise: &'a Noise,
    /// By the number of draws, odd: the probability that their median is among the first so many of
    /// the shape.
    below: BTreeMap<usize, Vec<f64>>,
}

impl<'a> MedianDraws<'a> {
    pub(super) fn new(noise: &'a Noise) -> Self {
        Self { noise, below: BTreeMap::new() }
    }

    /// How much ln of the median of `repeats` of size number `at` might differ from the true one,
    /// so many times.
    pub(super) fn draw(
        &mut self,
        at: usize,
        repeats: usize,
        count: usize,
        stream: &mut Stream,
    ) -> Vec<f64> {
        let shape = &self.noise.shape;
        if shape.is_empty() {
            return vec![0.0; count];
        }
        // The median of an even number is not one of them: it is drawn as that of one less, which
        // varies more by n/(n − 1).
        let draws = repeats - (repeats + 1) % 2;
        let scale = self.noise.scales[at] * (draws as f64 / repeats as f64).sqrt();
        // The median of r draws is at most the j-th value of m where more than half of them are:
        // P(Binomial(r, j/m) > r/2). One uniform number does for r draws and their median.
        let below = self.below.entry(draws).or_insert_with(|| {
            let more_than_half = |j: usize| {
                let binomial = Binomial::new(j as f64 / shape.len() as f64, draws as u64).ok();
                binomial.map_or(0.0, |binomial| binomial.sf(draws as u64 / 2))
            };
            (1..=shape.len()).map(more_than_half).collect()
        });
        let mut draw = || {
            let drawn = uniform(stream);
            let at = below.partition_point(|&probability| probability < drawn);
            scale * shape[at.min(shape.len() - 1)]
        };
        (0..count).map(|_| draw()).collect()
    }
}

/// A normal number of mean 0 and standard deviation 1.
pub(super) fn normal(stream: &mut Stream) -> f64 {
    Normal::standard().inverse_cdf(uniform(stream))
}

/// The standard deviation, of ln t, of what neither lines nor noise explain, as wide as its own
/// uncertainty demands.
///
/// `residuals` are ln t minus that of the line, each with the standard deviation that noise gives
/// it, after `parameters` were fitted. Noise explains them unless Σ r²/v exceeds χ²'s quantile of
/// 95 %; then τ solves Σ r²/(v + τ²) = degrees of freedom (Paule and Mandel, "Consensus values and
/// weighting factors", Journal of Research of the NBS 87, 1982), and is multiplied by Student's
/// quantile over the normal one.
pub(super) fn model_deviation(residuals: &[(f64, f64)], parameters: usize) -> f64 {
    let freedom = residuals.len().saturating_sub(parameters).max(1) as f64;
    let squares = |tau: f64| {
        residuals
            .iter()
            .map(|(r, deviation)| r * r / (deviation * deviation + tau * tau))
            .sum::<f64>()
    };
    let noisy = residuals.iter().all(|(_, deviation)| *deviation > 0.0);
    let expected =
        ChiSquared::new(freedom).map_or(freedom, |chi| chi.inverse_cdf(1.0 - MODEL_REJECTED));
    if noisy && squares(0.0) <= expected {
        return 0.0;
    }
    // The sum falls with τ, and is below the degrees of freedom where all of it is model error.
    let (mut low, mut high) =
        (0.0, (residuals.iter().map(|(r, _)| r * r).sum::<f64>() / freedom).sqrt());
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if squares(middle) > freedom { low = middle } else { high = middle }
    }
    let student = StudentsT::new(0.0, 1.0, freedom)
        .map_or(f64::INFINITY, |t| t.inverse_cdf(1.0 - LOWER_TAIL));
    high * student / Normal::standard().inverse_cdf(1.0 - LOWER_TAIL)
}

/// The same from sizes that were left out of the fit, which see errors that more segments would
/// hide.
///
/// The residual of a size left out has the variance (v + τ²)·n/(n − p) of n sizes and p parameters,
/// 1 − p/n being the mean of 1 minus the leverage. It is estimated by the median of distances, since
/// a size next to a switch may be taken for the other protocol's.
pub(super) fn held_out_model_deviation(
    residuals: &[f64],
    deviations: &[f64],
    parameters: usize,
) -> f64 {
    let n = residuals.len() as f64;
    let distances: Vec<f64> = residuals.iter().map(|residual| residual.abs()).collect();
    let variances: Vec<f64> = deviations.iter().map(|deviation| deviation * deviation).collect();
    let noise = median(&variances);
    let seen = (NORMAL_PER_MAD * median(&distances)).powi(2) * (n - parameters as f64) / n;
    if seen > HELD_OUT_EXCESS * noise { (seen - noise).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use foretrain_sim::random::Streams;

    use super::*;

    fn sizes(repeats: usize, sizes: usize) -> Vec<Kept> {
        let mut stream = Streams::new(3).stream("noise", "test");
        let mut size = || {
            let mut ln_seconds: Vec<f64> =
                (0..repeats).map(|_| 0.05 * normal(&mut stream)).collect();
            ln_seconds.sort_by(f64::total_cmp);
            Kept { ln_seconds, rejected: 0 }
        };
        (0..sizes).map(|_| size()).collect()
    }

    #[test]
    fn noise_is_found_from_few_repeats_as_from_many() {
        for repeats in [2, 3, 4, 5, 9, 25] {
            let noise = Noise::pooled(&sizes(repeats, 4000 / repeats)).deviation;
            assert!((noise / 0.05 - 1.0).abs() < 0.05, "{repeats} repeats: {noise}");
        }
    }

    /// Standard deviations of the medians of normal values, from tables of order statistics
    /// (variances 0.2868, 0.1661, 0.0613 of 5, 9, 25); of two, √½.
    #[test]
    fn medians_scatter_as_order_statistics_do() {
        for (repeats, expected) in [(2, 0.5_f64.sqrt()), (5, 0.5356), (9, 0.4076), (25, 0.2477)] {
            let sizes = sizes(repeats, 4000 / repeats);
            let noise = Noise::pooled(&sizes);
            let mut stream = Streams::new(4).stream("median", "test");
            let mut draws = MedianDraws::new(&noise);
            let squares: f64 = (0..sizes.len())
                .flat_map(|at| draws.draw(at, repeats, 100, &mut stream))
                .map(|draw| draw * draw / (100 * sizes.len()) as f64)
                .sum();
            let ratio = squares.sqrt() / (0.05 * expected);
            assert!((0.93..1.07).contains(&ratio), "{repeats} repeats: {ratio}");
        }
    }

    #[test]
    fn noisy_sizes_do_not_make_quiet_ones_noisy() {
        let mut sizes = sizes(25, 10);
        sizes[7..].iter_mut().for_each(|kept| kept.ln_seconds.iter_mut().for_each(|x| *x /= 10.0));
        let scales = Noise::pooled(&sizes).scales;
        assert!(scales[..7].iter().all(|scale| *scale > 0.03), "{scales:?}");
        assert!(scales[7..].iter().all(|scale| *scale < 0.008), "{scales:?}");
    }

    /// Σ r²/(v + τ²) = 4·0.05²/(0.03² + τ²) = 4, no parameter fitted, gives τ = 0.04; Student's quantile of
    /// 4 degrees is 2.776, the normal one 1.960.
    #[test]
    fn what_noise_does_not_explain_is_model_error() {
        let residuals = [0.05, -0.05, 0.05, -0.05].map(|r| (r, 0.03));
        let tau = model_deviation(&residuals, 0);
        assert!((tau - 0.04 * 2.776_445 / 1.959_964).abs() < 1e-6, "{tau}");
        assert_eq!(model_deviation(&residuals.map(|(r, _)| (r, 0.05)), 0), 0.0);
    }

    /// (1.4826·0.05)²·(8 − 4)/8 = 0.05242², of which 0.03² are noise, leaves 0.04299²; with 0.04²
    /// of noise it is 1.72 times as much, which happens.
    #[test]
    fn left_out_sizes_show_model_error() {
        let residuals = [0.05, -0.05, 0.05, -0.05, 0.05, -0.05, 0.05, 3.0];
        let tau = held_out_model_deviation(&residuals, &[0.03; 8], 4);
        assert!((tau - 0.042_99).abs() < 1e-5, "{tau}");
        assert_eq!(held_out_model_deviation(&residuals, &[0.04; 8], 4), 0.0);
    }
}

//! Which distribution the factors of step times follow.
//!
//! The slowest of thousands of ranks decides when a step ends, so the tail matters as much as the
//! variation. Four candidates are fitted by maximum likelihood to factors of mean 1 and compared by
//! the Bayesian information criterion. The simulator draws lognormal and gamma factors of mean 1
//! ([`JitterDistribution`]); the better of these two is named too.
//!
//! Left out: that steps may depend on each other, for which see [`super::series`], and mixtures,
//! such as a rare pause on top of small noise; a small Kolmogorov–Smirnov probability of the best
//! candidate says that none fits.

use foretrain_sim::jitter::JitterDistribution;
use foretrain_sim::random::{Stream, Streams};
use rand::distr::Distribution;
use serde::Serialize;
use statrs::distribution::{Continuous, ContinuousCDF, Gamma, LogNormal, Normal};
use statrs::function::gamma::digamma;

use super::Refusal;
use super::estimate::{Estimate, moments, variation_estimate};
use super::noise::normal as standard_normal;
use super::robust::sorted;

/// The fewest values that tell distributions apart.
pub const FEWEST_VALUES: usize = 20;

/// How many samples the probabilities of the Kolmogorov–Smirnov statistic are counted from, which
/// gives them steps of one in a hundred.
const KS_DRAWS: usize = 99;

/// A distribution with its parameters; factors have mean 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "distribution", rename_all = "kebab-case")]
pub enum Shape {
    /// Normal.
    Normal {
        /// μ.
        mean: f64,
        /// σ.
        deviation: f64,
    },
    /// ln x is normal.
    Lognormal {
        /// The mean of ln x.
        mu: f64,
        /// The standard deviation of ln x.
        sigma: f64,
    },
    /// Gamma: density ∝ x^(k−1)·exp(−λx).
    Gamma {
        /// k.
        shape: f64,
        /// λ.
        rate: f64,
    },
    /// ln(x − shift) is normal: nothing is faster than the shift.
    ShiftedLognormal {
        /// The least value.
        shift: f64,
        /// The mean of ln(x − shift).
        mu: f64,
        /// The standard deviation of ln(x − shift).
        sigma: f64,
    },
}

/// A fitted distribution and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Candidate {
    /// The distribution.
    #[serde(flatten)]
    pub shape: Shape,
    /// ln of the likelihood of all values.
    pub log_likelihood: f64,
    /// Akaike's information criterion, 2p − 2·ln L of p parameters: less is better.
    pub aic: f64,
    /// The Bayesian information criterion, p·ln n − 2·ln L: less is better.
    pub bic: f64,
    /// Kolmogorov and Smirnov's statistic: the largest distance between the measured and the
    /// fitted cumulative distribution.
    pub ks_statistic: f64,
    /// How probable a larger statistic is if the distribution is right.
    ///
    /// Counted from samples drawn from the fit and fitted again, since the parameters come from the
    /// same values: Kolmogorov's formula would give far too large a probability (Lilliefors, "On
    /// the Kolmogorov-Smirnov test for normality with mean and variance unknown", JASA 62, 1967).
    pub ks_probability: f64,
}

/// What the factors of step times follow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DistributionFit {
    /// Every candidate, the best first.
    pub candidates: Vec<Candidate>,
    /// The better one of those that the simulator draws.
    pub drawable: JitterDistribution,
    /// Standard deviation over mean.
    pub variation: Estimate,
}

impl DistributionFit {
    /// The candidate with the least Bayesian information criterion.
    #[must_use]
    pub fn best(&self) -> Option<&Candidate> {
        self.candidates.first()
    }
}

/// Fits distributions to positive `factors` in any order, such as step times; they are divided by
/// their mean. `name` says what was measured and keys the random numbers.
///
/// # Errors
///
/// A [`Refusal`] where there are fewer than [`FEWEST_VALUES`], one is not positive, or all are
/// equal.
pub fn fit_distribution(
    factors: &[f64],
    streams: &Streams,
    name: &str,
) -> Result<DistributionFit, Refusal> {
    let found = factors.len();
    let bad = factors.iter().enumerate().find(|(_, value)| !(value.is_finite() && **value > 0.0));
    if let Some((index, &value)) = bad {
        return Err(Refusal::BadValue { index, value });
    }
    if found < FEWEST_VALUES {
        return Err(Refusal::TooFewValues { found, expected: FEWEST_VALUES });
    }
    let values = sorted(factors);
    if values.first() == values.last() {
        return Err(Refusal::NoVariation { found, value: factors[0] });
    }
    let (mean, _) = moments(&values);
    let values: Vec<f64> = values.iter().map(|value| value / mean).collect();
    let Some(variation) = variation_estimate(&values, streams, name) else {
        return Err(Refusal::NoVariation { found, value: factors[0] });
    };
    let mut candidates: Vec<Candidate> =
        FITS.iter().filter_map(|fit| candidate(&values, *fit, streams, name)).collect();
    candidates.sort_by(|a, b| a.bic.total_cmp(&b.bic));
    let drawable = candidates
        .iter()
        .find_map(|candidate| match candidate.shape {
            Shape::Lognormal { .. } => Some(JitterDistribution::Lognormal),
            Shape::Gamma { .. } => Some(JitterDistribution::Gamma),
            Shape::Normal { .. } | Shape::ShiftedLognormal { .. } => None,
        })
        .unwrap_or_default();
    Ok(DistributionFit { candidates, drawable, variation })
}

type Fit = fn(&[f64]) -> Option<Shape>;

const FITS: [Fit; 4] = [lognormal, gamma, normal, shifted_lognormal];

fn candidate(values: &[f64], fit: Fit, streams: &Streams, name: &str) -> Option<Candidate> {
    let shape = fit(values)?;
    let n = values.len() as f64;
    let (ln_density, cumulative) = shape.functions()?;
    let log_likelihood: f64 = values.iter().map(|&value| ln_density(value)).sum();
    let ks_statistic = distance(values, cumulative);
    let mut stream = streams.stream(name, &format!("samples of {}", shape.name()));
    // A sample that the distribution cannot be fitted to says nothing.
    let drawn: Vec<f64> = (0..KS_DRAWS)
        .filter_map(|_| {
            let mut sample: Vec<f64> = values.iter().map(|_| shape.draw(&mut stream)).collect();
            sample.sort_by(f64::total_cmp);
            let (_, refitted) = fit(&sample)?.functions()?;
            Some(distance(&sample, refitted))
        })
        .collect();
    let larger = drawn.iter().filter(|&&drawn| drawn >= ks_statistic).count();
    let parameters = shape.parameters();
    log_likelihood.is_finite().then(|| Candidate {
        shape,
        log_likelihood,
        aic: 2.0 * parameters - 2.0 * log_likelihood,
        bic: parameters * n.ln() - 2.0 * log_likelihood,
        ks_statistic,
        ks_probability: (larger + 1) as f64 / (drawn.len() + 1) as f64,
    })
}

impl Shape {
    /// Its name, as profiles have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Normal { .. } => "normal",
            Self::Lognormal { .. } => "lognormal",
            Self::Gamma { .. } => "gamma",
            Self::ShiftedLognormal { .. } => "shifted lognormal",
        }
    }

    fn parameters(&self) -> f64 {
        if matches!(self, Self::ShiftedLognormal { .. }) { 3.0 } else { 2.0 }
    }

    /// ln of the density, and the cumulative distribution.
    fn functions(&self) -> Option<(Function, Function)> {
        match *self {
            Self::Normal { mean, deviation } => {
                Normal::new(mean, deviation).ok().map(|known| functions(known, 0.0))
            }
            Self::Lognormal { mu, sigma } => {
                LogNormal::new(mu, sigma).ok().map(|known| functions(known, 0.0))
            }
            Self::Gamma { shape, rate } => {
                Gamma::new(shape, rate).ok().map(|known| functions(known, 0.0))
            }
            Self::ShiftedLognormal { shift, mu, sigma } => {
                LogNormal::new(mu, sigma).ok().map(|known| functions(known, shift))
            }
        }
    }

    fn draw(&self, stream: &mut Stream) -> f64 {
        match *self {
            Self::Gamma { shape, rate } => {
                Gamma::new(shape, rate).map_or(f64::NAN, |known| known.sample(stream))
            }
            Self::Normal { mean, deviation } => mean + deviation * standard_normal(stream),
            Self::Lognormal { mu, sigma } => (mu + sigma * standard_normal(stream)).exp(),
            Self::ShiftedLognormal { shift, mu, sigma } => {
                shift + (mu + sigma * standard_normal(stream)).exp()
            }
        }
    }
}

type Function = Box<dyn Fn(f64) -> f64>;

fn functions<D>(known: D, shift: f64) -> (Function, Function)
where
    D: Continuous<f64, f64> + ContinuousCDF<f64, f64> + Clone + 'static,
{
    let density = known.clone();
    (Box::new(move |x| density.ln_pdf(x - shift)), Box::new(move |x| known.cdf(x - shift)))
}

/// The largest distance between the `cumulative` distribution and that of `sorted` values, which
/// steps from i/n to (i + 1)/n at value number i.
fn distance(sorted: &[f64], cumulative: impl Fn(f64) -> f64) -> f64 {
    let n = sorted.len() as f64;
    let at = |(i, &value): (usize, &f64)| {
        let expected = cumulative(value);
        (expected - i as f64 / n).max((i + 1) as f64 / n - expected)
    };
    sorted.iter().enumerate().map(at).fold(0.0, f64::max)
}

/// Mean and standard deviation of n degrees of freedom, which are the most likely ones.
fn likely_moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (mean, (values.map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt())
}

fn normal(values: &[f64]) -> Option<Shape> {
    let (mean, deviation) = likely_moments(values.iter().copied());
    (deviation > 0.0).then_some(Shape::Normal { mean, deviation })
}

fn lognormal(values: &[f64]) -> Option<Shape> {
    let (mu, sigma) = likely_moments(values.iter().map(|value| value.ln()));
    (sigma > 0.0).then_some(Shape::Lognormal { mu, sigma })
}

/// The most likely shape k solves ln k − ψ(k) = ln(mean x) − mean(ln x) (Johnson, Kotz and
/// Balakrishnan, "Continuous univariate distributions", volume 1, section 17.7); the left side
/// falls from ∞ to 0, between 1/(2k) and 1/k.
fn gamma(values: &[f64]) -> Option<Shape> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    // As the mean of ln(mean/x), which keeps its digits where the variation is small.
    let excess = values.iter().map(|value| (mean / value).ln()).sum::<f64>() / n;
    if excess.is_nan() || excess <= 0.0 {
        return None;
    }
    let (mut low, mut high) = ((0.5 / excess).ln(), excess.recip().ln());
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if middle - digamma(middle.exp()) > excess { low = middle } else { high = middle }
    }
    let shape = low.exp();
    Some(Shape::Gamma { shape, rate: shape / mean })
}

/// For a given shift, μ and σ are those of ln(x − shift); the shift is the one of the largest
/// likelihood but for the useless one that grows without bound where the shift reaches the least
/// value (Hill, "The three-parameter lognormal distribution and Bayesian analysis of a point-source
/// epidemic", JASA 58, 1963): the largest local maximum below it is taken. There is none, and no fit,
/// where values are not skewed to the right.
fn shifted_lognormal(sorted: &[f64]) -> Option<Shape> {
    let (least, greatest) = (*sorted.first()?, *sorted.last()?);
    let n = sorted.len() as f64;
    let fit = |ln_gap: f64| {
        let shift = least - ln_gap.exp();
        let (mu, sigma) = likely_moments(sorted.iter().map(|value| (value - shift).ln()));
        // ln L = −Σ ln(x − shift) − n·ln σ − n·(1 + ln 2π)/2, of which the last is constant.
        (-n * (mu + sigma.ln()), Shape::ShiftedLognormal { shift, mu, sigma })
    };
    // From a thousandth to a hundred times the range of the values, in steps of a quarter of e.
    let start = ((greatest - least) / 1000.0).ln();
    let steps: Vec<f64> = (0..=46).map(|step| start + f64::from(step) * 0.25).collect();
    let likelihoods: Vec<f64> = steps.iter().map(|&at| fit(at).0).collect();
    let peak = (1..steps.len() - 1)
        .filter(|&i| likelihoods[i] > likelihoods[i - 1] && likelihoods[i] >= likelihoods[i + 1])
        .max_by(|&a, &b| likelihoods[a].total_cmp(&likelihoods[b]))?;
    let (mut low, mut high) = (steps[peak - 1], steps[peak + 1]);
    for _ in 0..40 {
        let third = (high - low) / 3.0;
        if fit(low + third).0 < fit(high - third).0 { low += third } else { high -= third }
    }
    let (likelihood, shape) = fit((low + high) / 2.0);
    likelihood.is_finite().then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(shape: Shape, count: usize, seed: u64) -> Vec<f64> {
        let mut stream = Streams::new(seed).stream("values", "test");
        (0..count).map(|_| shape.draw(&mut stream)).collect()
    }

    fn fitted(shape: Shape, count: usize, seed: u64) -> DistributionFit {
        fit_distribution(&sample(shape, count, seed), &Streams::new(1), "test").expect("a fit")
    }

    /// ln of 1, e, e² has mean 1 and variance 2/3.
    #[test]
    fn lognormal_parameters_are_those_of_the_logarithms() {
        let e = std::f64::consts::E;
        let Some(Shape::Lognormal { mu, sigma }) = lognormal(&[1.0, e, e * e]) else { panic!() };
        assert!((mu - 1.0).abs() < 1e-12 && (sigma - (2.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    /// The equation itself: ln k − ψ(k) = ln(mean) − mean(ln), and mean = k/λ.
    #[test]
    fn gamma_solves_its_equation() {
        let values = [0.5, 0.9, 1.0, 1.4, 2.2];
        let Some(Shape::Gamma { shape, rate }) = gamma(&values) else { panic!() };
        let mean = values.iter().sum::<f64>() / 5.0;
        let mean_ln = values.iter().map(|value| value.ln()).sum::<f64>() / 5.0;
        assert!((shape.ln() - digamma(shape) - mean.ln() + mean_ln).abs() < 1e-9);
        assert!((shape / rate - mean).abs() < 1e-12);
    }

    /// Three values at the quantiles 1/6, 1/2 and 5/6 lie in the middle of their steps of 1/3.
    #[test]
    fn the_distance_is_the_largest_to_either_side_of_a_step() {
        let known = Normal::standard();
        let values = [1.0 / 6.0, 0.5, 5.0 / 6.0].map(|p| known.inverse_cdf(p));
        assert!((distance(&values, |x| known.cdf(x)) - 1.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn the_distribution_of_a_sample_is_recognised() {
        let lognormal = fitted(Shape::Lognormal { mu: -0.045, sigma: 0.3 }, 2000, 1);
        assert_eq!(lognormal.best().map(|best| best.shape.name()), Some("lognormal"));
        assert_eq!(lognormal.drawable, JitterDistribution::Lognormal);
        let gamma = fitted(Shape::Gamma { shape: 11.0, rate: 11.0 }, 2000, 2);
        assert_eq!(gamma.best().map(|best| best.shape.name()), Some("gamma"));
        assert_eq!(gamma.drawable, JitterDistribution::Gamma);
        let normal = fitted(Shape::Normal { mean: 1.0, deviation: 0.2 }, 2000, 3);
        assert_eq!(normal.best().map(|best| best.shape.name()), Some("normal"));
        let shifted = Shape::ShiftedLognormal { shift: 0.9, mu: -2.8, sigma: 1.0 };
        let fit = fitted(shifted, 2000, 4);
        let best = fit.best().expect("a candidate");
        assert_eq!(best.shape.name(), "shifted lognormal");
        assert!(best.ks_probability > 0.05, "{best:?}");
        assert!(fit.candidates.iter().skip(1).all(|other| other.ks_probability < 0.05), "{fit:?}");
    }

    /// If the distribution is right, one probability in ten is below 0.1.
    #[test]
    fn probabilities_are_uniform_if_the_distribution_is_right() {
        let shape = Shape::Lognormal { mu: 0.0, sigma: 0.2 };
        let small = (0..200)
            .filter_map(|seed| {
                candidate(&sorted(&sample(shape, 40, seed)), lognormal, &Streams::new(seed), "test")
            })
            .filter(|candidate| candidate.ks_probability <= 0.1)
            .count();
        // 20 expected, with a standard deviation of 4.2.
        assert!((8..=33).contains(&small), "{small}");
    }

    #[test]
    fn the_order_and_the_unit_of_the_values_do_not_matter() {
        let mut values = sample(Shape::Lognormal { mu: 0.0, sigma: 0.1 }, 50, 1);
        let fit = |values: &[f64]| fit_distribution(values, &Streams::new(1), "test").expect("fit");
        let reference = fit(&values);
        values.reverse();
        assert_eq!(fit(&values), reference);
        values.iter_mut().for_each(|value| *value *= 1024.0);
        assert_eq!(fit(&values), reference);
    }

    #[test]
    fn values_that_say_nothing_are_refused() {
        let fit = |values: &[f64]| fit_distribution(values, &Streams::new(1), "test");
        let refusal = Refusal::TooFewValues { found: 3, expected: 20 };
        assert_eq!(fit(&[1.0, 2.0, 3.0]), Err(refusal));
        assert_eq!(fit(&[1.0; 30]), Err(Refusal::NoVariation { found: 30, value: 1.0 }));
        assert_eq!(fit(&[1.0, -1.0]), Err(Refusal::BadValue { index: 1, value: -1.0 }));
    }
}

//! The critical batch of one's own training, from the norms of gradients that it computes anyway.
//!
//! Data-parallel ranks have gradients of b images each, whose average is a gradient of B images.
//! Squared norms of both say how large the true gradient G and the noise of one image are
//! (McCandlish et al., "An empirical model of large-batch training", arXiv 1812.06162, appendix
//! A.1), means being taken over many steps before anything is divided:
//!
//! ```text
//! |G|² = (B ‖g_B‖² − b ‖g_b‖²) / (B − b)
//! S    = (‖g_b‖² − ‖g_B‖²) / (1/b − 1/B)        S = tr Σ, Σ the covariance over single images
//! ```
//!
//! The noise scale S/|G|² grows while training goes on, often tenfold, so a run has no single one.
//! What a run needs is in section 2.3 and appendix D there. With s the steps that exact gradients
//! would need, a step of batch B advances s by 1/(1 + 𝓑(s)/B), where 𝓑 is the noise scale. So steps
//! and images of the whole run are
//!
//! ```text
//! steps  = ∫ (1 + 𝓑(s)/B) ds = s_end (1 + Bc/B)
//! images = B · steps          = s_end (B + Bc)             Bc = (1/s_end) ∫ 𝓑(s) ds
//! ```
//!
//! at any constant B: the critical batch Bc is the mean of 𝓑 over *exact* steps. A run at B0 took
//! its steps elsewhere, each worth ds = 1/(1 + 𝓑/B0) = |G|²/Q of one, Q = |G|² + S/B0 being the
//! expected ‖g_B0‖². Over its steps, therefore,
//!
//! ```text
//! Bc = Σ S/Q / Σ |G|²/Q
//! ```
//!
//! Without Q, a ratio of plain sums, steps would count by the square of their gradient: the same
//! where noise dominates Q throughout (B0 far below 𝓑), but where it does not, the first steps would
//! be most of the answer. The mean of S/|G|² over steps would count steps at the end, which get
//! nowhere, as much as those that do the work, and is hardly defined where |G|² is within its error
//! of 0. S, |G|² and Q are means over a *phase*, a tenth of a run.
//!
//! Epochs to the same accuracy, and the learning rate that is as good at B as ε0 is at B0 (section
//! 2.2: ε = ε_max / (1 + 𝓑/B)), follow:
//!
//! ```text
//! E(B) = E(B0) (1 + B/Bc) / (1 + B0/Bc)
//! ε(B) = ε0    (1 + Bc/B0) / (1 + Bc/B)
//! ```
//!
//! *The interval* is a jackknife's: of each phase one block of consecutive steps at a time is left
//! out, since neighbours are not independent, and phases are strata, since their differences are no
//! errors (Shao and Tu, "The jackknife and bootstrap", 1995, sections 6.1 and 9.2); ln Bc plus or
//! minus Student's quantile times the standard error. It says how well the norms determine this Bc,
//! not how true the law is.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Phases of a run, where it has steps enough.
const PHASES: usize = 10;
/// Blocks of a phase that are left out in turn.
const BLOCKS: usize = 5;
/// Steps of a block at least.
const BLOCK_STEPS_MIN: usize = 4;
/// The fewest steps of a run that say anything.
pub const STEPS_MIN: usize = BLOCKS * BLOCK_STEPS_MIN;
/// The probability below an interval's upper end.
const UPPER: f64 = 0.975;

/// Images behind the two gradients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// b: behind a rank's gradient.
    pub local: f64,
    /// B: behind the average over all ranks.
    pub averaged: f64,
}

/// ‖g_b‖², the mean over ranks, and ‖g_B‖², of a step or as means over some.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SquaredNorms {
    /// ‖g_b‖².
    pub local: f64,
    /// ‖g_B‖².
    pub averaged: f64,
}

impl SquaredNorms {
    /// The means over `steps`; NaN of none.
    pub fn mean(steps: impl IntoIterator<Item = Self>) -> Self {
        let (sum, count) = steps.into_iter().fold((Self::default(), 0.0), |(sum, count), step| {
            let local = sum.local + step.local;
            (Self { local, averaged: sum.averaged + step.averaged }, count + 1.0)
        });
        Self { local: sum.local / count, averaged: sum.averaged / count }
    }

    /// What they say of the true gradient; either part may come out below 0 where few steps drown in
    /// noise.
    #[must_use]
    pub fn gradient(self, images: Images) -> Gradient {
        let Images { local: b, averaged: all } = images;
        Gradient {
            squared: (all * self.averaged - b * self.local) / (all - b),
            noise: (self.local - self.averaged) / (b.recip() - all.recip()),
        }
    }
}

/// The gradient over all images, and how single images scatter about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradient {
    /// |G|².
    pub squared: f64,
    /// S = tr Σ.
    pub noise: f64,
}

impl Gradient {
    /// S/|G|², in images.
    #[must_use]
    pub fn noise_scale(self) -> f64 {
        self.noise / self.squared
    }
}

/// A part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Steps of the run before it.
    pub first_step: u64,
    /// Its steps.
    pub steps: u64,
    /// The noise scale in it, in images; none where noise drowns the gradient.
    pub noise_scale: Option<f64>,
}

/// A critical batch, in images, with its interval of 95 %.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticalBatch {
    /// Bc.
    pub value: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How the noise scale went, in the phases of all runs.
    pub phases: Vec<Phase>,
}

/// Why norms do not say what the critical batch is.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoiseScaleError {
    /// One rank, or ranks without images.
    #[error(
        "{0} images behind a rank's gradient and {1} behind the average: take at least 2 ranks"
    )]
    Images(f64, f64),
    /// A run is too short.
    #[error("{0} steps have norms, expected at least {STEPS_MIN}: train for longer")]
    TooFewSteps(usize),
    /// A sum came out at 0 or below, or is no number.
    #[error(
        "over all steps |G|² comes out as {squared:.3e} and tr Σ as {noise:.3e} (weighted), which no \
         gradient has: noise drowns it; take more steps, more ranks or a larger batch"
    )]
    Drowned {
        /// The sum of |G|²/Q.
        squared: f64,
        /// The sum of S/Q.
        noise: f64,
    },
}

/// Steps that belong together.
struct Stratum {
    first_step: usize,
    steps: f64,
    mean: SquaredNorms,
    /// The means without each of its blocks.
    without: Vec<SquaredNorms>,
}

/// The critical batch of `runs` at the same batch, each the norms of all its steps in order.
///
/// # Errors
/// There is one rank only, a run is too short, or noise drowns the gradient.
pub fn critical_batch(
    images: Images,
    runs: &[Vec<SquaredNorms>],
) -> Result<CriticalBatch, NoiseScaleError> {
    if !(images.local > 0.0 && images.averaged > images.local) {
        return Err(NoiseScaleError::Images(images.local, images.averaged));
    }
    let mut strata = Vec::new();
    for run in runs {
        if run.len() < STEPS_MIN {
            return Err(NoiseScaleError::TooFewSteps(run.len()));
        }
        strata.extend(phases(run));
    }
    if strata.is_empty() {
        return Err(NoiseScaleError::TooFewSteps(0));
    }
    let weighted = |norms: SquaredNorms, steps: f64| {
        let Gradient { squared, noise } = norms.gradient(images);
        let weight = steps / norms.averaged;
        (weight * squared, weight * noise)
    };
    let (squared, noise) =
        strata.iter().map(|phase| weighted(phase.mean, phase.steps)).fold((0.0, 0.0), sum);
    let value = noise / squared;
    if !(squared > 0.0 && noise > 0.0 && value.is_finite()) {
        return Err(NoiseScaleError::Drowned { squared, noise });
    }
    let (mut variance, mut freedom) = (0.0, 0.0);
    for phase in &strata {
        let own = weighted(phase.mean, phase.steps);
        let rest = (squared - own.0, noise - own.1);
        let estimates: Vec<f64> = (phase.without.iter())
            .map(|without| sum(rest, weighted(*without, phase.steps)))
            .map(|(squared, noise)| (noise / squared).ln())
            .collect();
        let count = estimates.len() as f64;
        let middle = estimates.iter().sum::<f64>() / count;
        let squares: f64 = estimates.iter().map(|estimate| (estimate - middle).powi(2)).sum();
        variance += (count - 1.0) / count * squares;
        freedom += count - 1.0;
    }
    let factor = (student(freedom) * variance.sqrt()).exp();
    // Where leaving out a block already drowns the gradient, nothing bounds Bc.
    let factor = if factor.is_nan() { f64::INFINITY } else { factor };
    let phases = strata.iter().map(|phase| {
        let Gradient { squared, noise } = phase.mean.gradient(images);
        Phase {
            first_step: phase.first_step as u64,
            steps: phase.steps as u64,
            noise_scale: (squared > 0.0 && noise > 0.0).then(|| noise / squared),
        }
    });
    Ok(CriticalBatch { value, low: value / factor, high: value * factor, phases: phases.collect() })
}

fn sum(one: (f64, f64), other: (f64, f64)) -> (f64, f64) {
    (one.0 + other.0, one.1 + other.1)
}

/// A run, cut into phases of equal length.
fn phases(run: &[SquaredNorms]) -> Vec<Stratum> {
    let count = (run.len() / STEPS_MIN).clamp(1, PHASES);
    let cut = |parts: usize, part: usize, length: usize| part * length / parts;
    (0..count)
        .map(|phase| {
            let first_step = cut(count, phase, run.len());
            let steps = &run[first_step..cut(count, phase + 1, run.len())];
            let without = (0..BLOCKS).map(|block| {
                let block = cut(BLOCKS, block, steps.len())..cut(BLOCKS, block + 1, steps.len());
                let left = steps.iter().enumerate().filter(|(step, _)| !block.contains(step));
                SquaredNorms::mean(left.map(|(_, norms)| *norms))
            });
            Stratum {
                first_step,
                steps: steps.len() as f64,
                mean: SquaredNorms::mean(steps.iter().copied()),
                without: without.collect(),
            }
        })
        .collect()
}

/// Student's quantile of an interval of 95 %; infinite without degrees of freedom.
#[must_use]
pub fn student(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |student| student.inverse_cdf(UPPER))
}

/// E(B)/E(B0): how many times the epochs of `reference` a batch of `batch` needs.
///
/// ```
/// use foretrain_sim::convergence::noise_scale::epochs_ratio;
///
/// // Twice as many at the critical batch as at a very small one.
/// assert!((epochs_ratio(1000.0, 1e-9, 1000.0) - 2.0).abs() < 1e-9);
/// ```
#[must_use]
pub fn epochs_ratio(batch: f64, reference: f64, critical: f64) -> f64 {
    (1.0 + batch / critical) / (1.0 + reference / critical)
}

/// ε(B)/ε(B0): what multiplies the learning rate of `reference` at a batch of `batch`.
#[must_use]
pub fn learning_rate_ratio(batch: f64, reference: f64, critical: f64) -> f64 {
    (1.0 + critical / reference) / (1.0 + critical / batch)
}

#[cfg(test)]
mod tests;

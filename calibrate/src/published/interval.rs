//! How sure a prediction of a run is.
//!
//! ```text
//! ln(published / predicted) ~ N(0, s²),  s² = scatter² + Σ (∂ ln predicted / ∂θ · σ(θ))² + …
//! ```
//!
//! *Scatter* is what predictions of systems are off by that were left out of the fit. The sum is of the
//! fitted values' own uncertainty, which grows where they matter more than in any run that was fitted:
//! at small batches, on many ranks, in short epochs. Without an anchor comes the spread over systems of
//! how far kernels stay behind the roofline, and for an accelerator that the catalogue lacks that of
//! proportions of layers.

use foretrain_sim::catalogue::{Fitted, Overheads};
use foretrain_sim::units::{Fraction, SimDuration};

use super::fit::Z95;
use super::scaling::{self, Prediction, Run, Shared};

/// Of an accelerator that is not in the catalogue: half of what small batches lose on another.
const UNKNOWN_LN_DEVIATION: f64 = 0.1;

/// Intervals of 95 % of what is predicted of `run`: of images/s, and of minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intervals {
    /// Of images/s.
    pub images_per_s: (f64, f64),
    /// Of minutes, where they are predicted.
    pub minutes: Option<(f64, f64)>,
}

/// The intervals of `prediction`, which was made with `shared`.
#[must_use]
pub fn intervals(
    run: &Run,
    anchor: Option<&Run>,
    shared: &Shared,
    prediction: &Prediction,
) -> Intervals {
    let shipped = Overheads::shipped();
    let deviations = [
        ln_deviation(&shipped.graph_kernel, SimDuration::as_seconds),
        ln_deviation(&shipped.eager_kernel, SimDuration::as_seconds),
        ln_deviation(&shipped.variation, Fraction::get),
        ln_deviation(&shipped.epoch_start, SimDuration::as_seconds),
        ln_deviation(&shipped.evaluation_start, SimDuration::as_seconds),
    ];
    let mut common = shipped.scatter.get().powi(2);
    if anchor.is_none() {
        common += ln_deviation(&shipped.roofline_factor, Fraction::get).powi(2);
    }
    if run.system.known().is_none() {
        common += UNKNOWN_LN_DEVIATION.powi(2);
    }
    let (mut of_rate, mut of_minutes) = (common, common);
    let values = shared.values();
    for (index, deviation) in deviations.into_iter().enumerate().filter(|(_, d)| *d > 0.0) {
        let mut moved = values;
        moved[index] *= deviation.exp();
        // What cannot be predicted with a longer launch says that it decides.
        let Ok(other) = scaling::predict(run, anchor, &shared.with_values(moved)) else {
            of_rate += deviation.powi(2);
            of_minutes += deviation.powi(2);
            continue;
        };
        of_rate += (other.images_per_s / prediction.images_per_s).ln().powi(2);
        if let (Some(other), Some(minutes)) = (other.minutes, prediction.minutes) {
            of_minutes += (other / minutes).ln().powi(2);
        }
    }
    let around = |value: f64, variance: f64| {
        let factor = (Z95 * variance.sqrt()).exp();
        (value / factor, value * factor)
    };
    Intervals {
        images_per_s: around(prediction.images_per_s, of_rate),
        minutes: prediction.minutes.map(|minutes| around(minutes, of_minutes)),
    }
}

/// From an interval of 95 % of a logarithm.
fn ln_deviation<T: Copy>(fitted: &Fitted<T>, number: impl Fn(T) -> f64) -> f64 {
    (number(fitted.high) / number(fitted.low)).ln() / (2.0 * Z95)
}

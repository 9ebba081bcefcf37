//! How accuracy grows during training.
//!
//! ```text
//! top-1(e) = (F − D·s(e)^κ) · (1 − exp(−z(e)/z0))        F = C − a·(u/90)^−γ
//! z0 = z1·(1 + B/B1)                                     u = T / (1 + B/Bc)
//! ```
//!
//! F is the accuracy at the planned end T, the power law of `accuracy`. While the learning rate is
//! hot the weights are noisy and the network is D points worse; cooling removes that: s is the
//! learning rate over its peak, and with LARS κ is close to 1, as the loss of noisy descent in a
//! bowl is proportional to the rate (Mandt, Hoffman and Blei, "Stochastic gradient descent as
//! approximate Bayesian inference", JMLR 18, 2017). The last factor is the time to learn
//! anything: z is the rate summed so far, in epochs at the peak, and large batches take fewer steps
//! an epoch, so that z0 grows with B. Early in training the critical batch B1 is smaller than at
//! the end, as the gradient's noise scale grows (McCandlish et al., arXiv 1812.06162).
//!
//! D, κ and the level differ between LARS, momentum dropped by steps, and other momentum.

use serde::{Deserialize, Serialize};

use super::accuracy::REFERENCE_EPOCHS;
use super::forecast::{Extrapolation, Forecast, Range, outside};
use super::posterior::{NORMAL_95, Names, Posterior, PosteriorError, Scale};
use super::recipe::Optimizer;
use super::schedule::Schedule;
use super::useful::useful_epochs;

/// C, a, γ, Bc, D, κ, z1, B1; offset, D, κ of steps; offset of other momentum, and the length and
/// power of its schedule where that was not published.
pub const PARAMETERS: &Names = &[
    ("ceiling, percent", Scale::Linear),
    ("loss at 90 useful epochs, points", Scale::Logarithm),
    ("exponent of useful epochs", Scale::Logarithm),
    ("critical batch", Scale::Logarithm),
    ("loss at the peak rate, points", Scale::Logarithm),
    ("exponent of the rate", Scale::Logarithm),
    ("epochs to learn anything", Scale::Logarithm),
    ("critical batch at the start", Scale::Logarithm),
    ("level of momentum by steps, points", Scale::Linear),
    ("loss at the peak rate of momentum by steps, points", Scale::Logarithm),
    ("exponent of the rate of momentum by steps", Scale::Logarithm),
    ("level of other momentum, points", Scale::Linear),
    ("epochs of unpublished schedules at small batches", Scale::Logarithm),
    ("power of unpublished schedules", Scale::Logarithm),
];

/// A measurement misses the law by so many points at the end of training, at a scale of 1.
pub const NOISE_AT_END: f64 = 0.25;

/// The further below the end, the noisier an evaluation: by this part of the distance.
pub const NOISE_BELOW_END: f64 = 0.08;

/// The standard deviation of an evaluation `below_end` points below the final accuracy, at a scale
/// of 1.
#[must_use]
pub fn noise(below_end: f64) -> f64 {
    NOISE_AT_END + NOISE_BELOW_END * below_end.max(0.0)
}

/// A run whose curve is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// How weights are updated.
    pub optimizer: Optimizer,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// The global batch.
    pub batch: f64,
}

/// By how many times [`noise`] evaluations of each kind of run miss the law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoiseScale {
    /// LARS.
    pub lars: f64,
    /// Momentum dropped by steps.
    pub steps: f64,
    /// Other momentum.
    pub momentum: f64,
}

impl NoiseScale {
    fn of(self, course: &Course) -> f64 {
        match (&course.schedule, course.optimizer) {
            (Schedule::Steps { .. }, _) => self.steps,
            (Schedule::Polynomial { .. }, Optimizer::Momentum) => self.momentum,
            (Schedule::Polynomial { .. }, _) => self.lars,
        }
    }
}

/// F of parameters in the order of [`PARAMETERS`]; NaN of fewer.
#[must_use]
pub fn final_top1(parameters: &[f64], course: &Course) -> f64 {
    let &[ceiling, loss, exponent, critical, _, _, _, _, steps, _, _, momentum, ..] = parameters
    else {
        return f64::NAN;
    };
    let level = match (&course.schedule, course.optimizer) {
        (Schedule::Steps { .. }, _) => steps,
        (Schedule::Polynomial { .. }, Optimizer::Momentum) => momentum,
        (Schedule::Polynomial { .. }, _) => 0.0,
    };
    let useful = useful_epochs(course.schedule.epochs(), course.batch, critical);
    ceiling + level - loss * (useful / REFERENCE_EPOCHS).powf(-exponent)
}

/// Top-1 in percent after epoch `e` of a run that ends at `final_top1`; NaN of fewer parameters.
#[must_use]
pub fn approach(parameters: &[f64], course: &Course, final_top1: f64, e: f64) -> f64 {
    let &[_, _, _, _, heat, power, start, start_batch, _, steps_heat, steps_power, ..] = parameters
    else {
        return f64::NAN;
    };
    let (heat, power) = match course.schedule {
        Schedule::Steps { .. } => (steps_heat, steps_power),
        Schedule::Polynomial { .. } => (heat, power),
    };
    let cooled = final_top1 - heat * course.schedule.temperature(e).powf(power);
    let slowness = start * (1.0 + course.batch / start_batch);
    let learnt = -(-course.schedule.travelled(e) / slowness).exp_m1();
    (cooled * learnt).max(0.0)
}

/// Top-1 in percent after epoch `e`; NaN of fewer parameters.
#[must_use]
pub fn top1(parameters: &[f64], course: &Course, e: f64) -> f64 {
    approach(parameters, course, final_top1(parameters, course), e)
}

/// The schedule taken for momentum where none was published: as long as the epochs to target grow
/// with the batch.
#[must_use]
pub fn unpublished_schedule(parameters: &[f64], batch: f64, warm_up_epochs: f64) -> Schedule {
    let (epochs, power) = match *parameters {
        [_, _, _, critical, _, _, _, _, _, _, _, _, length, power, ..] => {
            (length * (1.0 + batch / critical), power)
        }
        _ => (f64::NAN, f64::NAN),
    };
    Schedule::Polynomial { warm_up_epochs, epochs, power }
}

/// The fitted law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveLaw {
    /// The parameters.
    pub posterior: Posterior,
    /// An evaluation misses the law by so many times [`noise`].
    pub noise_scale: NoiseScale,
    /// The batches fitted.
    pub batches: Range,
    /// The planned lengths fitted, in epochs.
    pub epochs: Range,
    /// What it was fitted to.
    pub source: String,
}

impl CurveLaw {
    /// Whether the parameters are those of this law.
    pub fn check(&self) -> Result<(), PosteriorError> {
        self.posterior.check(PARAMETERS)
    }

    /// Top-1 in percent after epoch `e`, at the level of MLPerf's recipes.
    #[must_use]
    pub fn top1(&self, course: &Course, e: f64) -> Forecast {
        let values = self.posterior.values();
        let end = final_top1(&values, course);
        let value = approach(&values, course, end, e);
        let fitted = self.posterior.deviation(|p| top1(p, course, e));
        let noise = self.noise_scale.of(course) * noise(end - value);
        Forecast::percent(value, fitted.hypot(noise), self.outside(course))
    }

    /// Top-1 in percent after epoch `e` of a run that ends at `end`, from
    /// [`AccuracyLaw::final_top1`](super::AccuracyLaw::final_top1): the shape alone is this law's.
    #[must_use]
    pub fn top1_towards(&self, course: &Course, end: &Forecast, e: f64) -> Forecast {
        let values = self.posterior.values();
        let value = approach(&values, course, end.value, e);
        let fitted = self.posterior.deviation(|p| approach(p, course, end.value, e));
        let noise = self.noise_scale.of(course) * noise(end.value - value);
        let width = fitted.hypot(noise);
        let middle = Forecast::percent(value, width, self.outside(course));
        // The end's interval on top of the shape's, as if both missed in the same direction.
        let reached = |end: f64| approach(&values, course, end, e);
        let low = reached(end.low).min(value) - NORMAL_95 * width;
        let high = reached(end.high).max(value) + NORMAL_95 * width;
        let mut extrapolated = end.extrapolated.clone();
        for why in middle.extrapolated {
            if !extrapolated.contains(&why) {
                extrapolated.push(why);
            }
        }
        Forecast {
            value: middle.value,
            low: low.clamp(0.0, middle.value),
            high: high.clamp(middle.value, 100.0),
            extrapolated,
        }
    }

    fn outside(&self, course: &Course) -> Vec<Extrapolation> {
        let epochs = (course.schedule.epochs(), self.epochs);
        let mut found = outside(course.batch, self.batches, Some(epochs));
        let unseen = match (&course.schedule, course.optimizer) {
            (Schedule::Polynomial { .. }, Optimizer::Lars)
            | (Schedule::Steps { .. }, Optimizer::Momentum) => None,
            (Schedule::Polynomial { .. }, Optimizer::Momentum) => {
                Some("the runs of momentum with a smooth schedule do not say which")
            }
            _ => Some("no run of this optimizer and schedule"),
        };
        found.extend(unseen.map(|what| Extrapolation::Recipe { what: what.to_owned() }));
        found
    }
}

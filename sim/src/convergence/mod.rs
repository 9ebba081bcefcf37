//! How training converges: epochs to the target accuracy, the accuracy at the end, and the way
//! there.
//!
//! All of it rests on useful epochs u = E / (1 + B/Bc): E passes over the data at global batch B
//! are worth u passes of small batches, Bc the critical batch of model and recipe. Parameters are
//! data, fitted to published runs, each with its interval; forecasts outside what was fitted say
//! so.

pub mod accuracy;
pub mod curve;
pub mod epochs;
mod forecast;
mod known;
pub mod noise_scale;
pub mod posterior;
mod question;
mod recipe;
mod schedule;
#[cfg(test)]
mod tests;
mod useful;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use accuracy::{AccuracyLaw, Anchor, Training};
pub use curve::{Course, CurveLaw, NoiseScale};
pub use epochs::{EpochsLaw, EpochsRecipe, UsualWarmUp};
pub use forecast::{Extrapolation, Forecast, Range};
pub use known::{CriticalBatch, CriticalBatchSource, KnownAccuracy, KnownEpochs};
pub use posterior::{Parameter, Posterior, PosteriorError, Scale};
pub use question::{EPOCHS_MAX, Goal, Outcome, Question};
pub use recipe::{Model, Optimizer, Precision, Recipe};
pub use schedule::Schedule;
pub use useful::useful_epochs;

/// All fitted laws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// Epochs to target of ResNet-50 by LARS.
    pub epochs: EpochsLaw,
    /// The accuracy at the end.
    pub accuracy: AccuracyLaw,
    /// The way there.
    pub curve: CurveLaw,
}

impl Convergence {
    /// The laws that come with this version, as fitted to the published runs that are in
    /// `scenarios/published` by `foretrain_calibrate::published::convergence`.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<Convergence> = LazyLock::new(|| {
            #[expect(clippy::expect_used, reason = "a test reads the shipped file")]
            serde_json::from_str(include_str!("fitted.json")).expect("the shipped laws are whole")
        });
        &SHIPPED
    }

    /// Whether all parameters are those of their laws, as after reading them.
    pub fn check(&self) -> Result<(), PosteriorError> {
        self.epochs.check()?;
        self.accuracy.check()?;
        self.curve.check()
    }

    /// How many epochs a global batch of `batch` needs to the target accuracy.
    #[must_use]
    pub fn epochs_to_target(&self, batch: f64) -> Forecast {
        self.epochs.epochs_to_target(batch)
    }

    /// Top-1 in percent at the end of `training`, against `anchor` where there is one.
    #[must_use]
    pub fn final_top1(&self, training: &Training, anchor: Option<&Anchor>) -> Forecast {
        self.accuracy.final_top1(training, anchor)
    }

    /// Top-1 in percent after epoch `e` of `course`, at the level of MLPerf's recipes.
    #[must_use]
    pub fn curve(&self, course: &Course, e: f64) -> Forecast {
        self.curve.top1(course, e)
    }
}

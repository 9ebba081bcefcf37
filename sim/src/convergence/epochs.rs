//! How many epochs a global batch needs to the target accuracy.
//!
//! ```text
//! E(B) = E0 · (1 + B/Bc) · (d/d0)^β + w/2
//! ```
//!
//! B is the global batch, Bc the critical batch (McCandlish et al., arXiv 1812.06162). Two parts of
//! the recipe differ from batch to batch in published points, and must not be read as effects of
//! the batch: over a linear warm-up of w epochs the learning rate is half of its peak on average,
//! so that w/2 epochs are lost; and a larger weight decay d needs more epochs, as short trainings
//! under-fit (d0 = 5·10⁻⁵; β is shrunk towards 0 by its prior).
//!
//! Where a scenario does not say, d is d0 and w grows linearly with the batch, as published recipes
//! have it; then E(B) = E0' · (1 + B/Bc') again, see [`EpochsLaw::small_batch_epochs`] and
//! [`EpochsLaw::critical_batch`].

use serde::{Deserialize, Serialize};

use super::forecast::{Forecast, Range, outside};
use super::posterior::{Names, Posterior, PosteriorError, Scale};

/// d0.
pub const REFERENCE_DECAY: f64 = 5e-5;

/// The part of a linear warm-up that is lost.
pub const WARM_UP_LOSS: f64 = 0.5;

/// E0, Bc, β.
pub const PARAMETERS: &Names = &[
    ("epochs of small batches without warm-up", Scale::Logarithm),
    ("critical batch without warm-up", Scale::Logarithm),
    ("exponent of weight decay", Scale::Linear),
];

/// The place of Bc.
pub(super) const CRITICAL: usize = 1;

/// What of the recipe changes the epochs to target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochsRecipe {
    /// w.
    pub warm_up_epochs: f64,
    /// d.
    pub weight_decay: f64,
}

/// E(B) of parameters in the order of [`PARAMETERS`]; NaN of fewer.
#[must_use]
pub fn epochs(parameters: &[f64], batch: f64, recipe: &EpochsRecipe) -> f64 {
    let &[small, critical, exponent, ..] = parameters else { return f64::NAN };
    let decay = (recipe.weight_decay / REFERENCE_DECAY).powf(exponent);
    small * (1.0 + batch / critical) * decay + WARM_UP_LOSS * recipe.warm_up_epochs
}

/// How long published recipes warm up: a line in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UsualWarmUp {
    /// Of small batches, in epochs.
    pub epochs: f64,
    /// More for each image of the global batch, in epochs; not negative.
    pub epochs_per_image: f64,
}

impl UsualWarmUp {
    /// The warm-up of a batch.
    #[must_use]
    pub fn of(self, batch: f64) -> f64 {
        self.epochs + self.epochs_per_image * batch
    }
}

/// The fitted law for one model, optimizer and target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochsLaw {
    /// The parameters.
    pub posterior: Posterior,
    /// By how much runs miss the law, as a standard deviation of ln E.
    pub residual: f64,
    /// The accuracy at which training stops, in percent.
    pub target_top1_percent: f64,
    /// How long the recipes warm up.
    pub usual_warm_up: UsualWarmUp,
    /// The batches fitted.
    pub batches: Range,
    /// What it was fitted to.
    pub source: String,
}

impl EpochsLaw {
    /// Whether the parameters are those of this law.
    pub fn check(&self) -> Result<(), PosteriorError> {
        self.posterior.check(PARAMETERS)
    }

    /// The usual recipe at a global batch of `batch`.
    #[must_use]
    pub fn usual_recipe(&self, batch: f64) -> EpochsRecipe {
        EpochsRecipe { warm_up_epochs: self.usual_warm_up.of(batch), weight_decay: REFERENCE_DECAY }
    }

    /// How many epochs a global batch of `batch` needs, with the usual recipe.
    #[must_use]
    pub fn epochs_to_target(&self, batch: f64) -> Forecast {
        self.epochs_with(batch, &self.usual_recipe(batch))
    }

    /// How many epochs a global batch of `batch` needs, with `recipe`.
    #[must_use]
    pub fn epochs_with(&self, batch: f64, recipe: &EpochsRecipe) -> Forecast {
        let value = epochs(&self.posterior.values(), batch, recipe);
        let fitted = self.posterior.deviation(|p| epochs(p, batch, recipe).ln());
        let extrapolated = outside(batch, self.batches, None);
        Forecast::positive(value, fitted.hypot(self.residual), extrapolated)
    }

    /// E0' of the usual recipe.
    #[must_use]
    pub fn small_batch_epochs(&self) -> f64 {
        epochs(&self.posterior.values(), 0.0, &self.usual_recipe(0.0))
    }

    /// Bc' of the usual recipe, at which twice as many epochs are needed.
    #[must_use]
    pub fn critical_batch(&self) -> f64 {
        let start = self.small_batch_epochs();
        let unit = 1000.0;
        let per_image =
            (epochs(&self.posterior.values(), unit, &self.usual_recipe(unit)) - start) / unit;
        start / per_image
    }
}

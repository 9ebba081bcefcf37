//! How accurate a network is at the end of training.
//!
//! ```text
//! top-1 = C − a·(u/90)^−γ − penalties        u = E / (1 + B/Bc)
//! ```
//!
//! C is the ceiling of the model, u the useful epochs, a the loss against the ceiling after 90 of
//! them: a falling power law, as of the loss against the data seen (Hestness et al., arXiv
//! 1712.00409). Penalties, in points:
//!
//! ```text
//! p·(B/32,768)^k    momentum with the linear scaling rule, which fails above some batch (Goyal et
//!                   al., arXiv 1706.02677, figure 1); Lars does without
//! h                 half precision
//! n·B/8,192         no warm-up (Goyal et al.: 1.2 points at 8,192)
//! d·B/65,536        Lars decays bias and batch norm (Jia et al., arXiv 1807.11205)
//! s                 gradients vanish in half precision without loss scaling
//! ```
//!
//! Recipes of different sources differ in augmentation and schedule by τ points, which no batch
//! explains; where a run of the same recipe is known (the anchor), it sets the level and only the
//! loss against it is forecast. Two optimizers of one source differ by another τ₂.

use serde::{Deserialize, Serialize};

use super::forecast::{Extrapolation, Forecast, Range, outside};
use super::posterior::{Names, Posterior, PosteriorError, Scale};
use super::recipe::{Model, Precision, Recipe};
use super::useful::useful_epochs;

/// What the power law is anchored at.
pub const REFERENCE_EPOCHS: f64 = 90.0;

/// The batch at which the penalty of linear scaling is p.
pub const COLLAPSE_BATCH: f64 = 32_768.0;

/// The batch at which the penalty of no warm-up is n.
pub const WARM_UP_BATCH: f64 = 8192.0;

/// The batch at which the penalty of decay on bias and batch norm is d.
pub const DECAY_BATCH: f64 = 65_536.0;

/// C of three models, a, γ, Bc, p, k, h, n, d, s.
pub const PARAMETERS: &Names = &[
    ("ceiling of resnet50, percent", Scale::Linear),
    ("ceiling of alexnet, percent", Scale::Linear),
    ("ceiling of alexnet-bn, percent", Scale::Linear),
    ("loss at 90 useful epochs, points", Scale::Logarithm),
    ("exponent of useful epochs", Scale::Logarithm),
    ("critical batch", Scale::Logarithm),
    ("loss of linear scaling at 32,768, points", Scale::Logarithm),
    ("exponent of linear scaling's loss", Scale::Logarithm),
    ("loss of half precision, points", Scale::Linear),
    ("loss without warm-up at 8,192, points", Scale::Logarithm),
    ("loss of decay on bias and batch norm at 65,536, points", Scale::Logarithm),
    ("loss of half precision without loss scaling, points", Scale::Logarithm),
];

/// The place of Bc.
pub(super) const CRITICAL: usize = 5;

/// A training: what, how much of it at a time, how long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// How.
    pub recipe: Recipe,
    /// The global batch.
    pub batch: f64,
    /// Passes over the data.
    pub epochs: f64,
}

/// Top-1 in percent of parameters in the order of [`PARAMETERS`]; NaN of fewer.
#[must_use]
pub fn top1(parameters: &[f64], training: &Training) -> f64 {
    let &[
        resnet50,
        alexnet,
        alexnet_bn,
        loss,
        exponent,
        critical,
        collapse,
        collapse_exponent,
        half,
        no_warm_up,
        decay,
        small_gradients,
        ..,
    ] = parameters
    else {
        return f64::NAN;
    };
    let Training { recipe, batch, epochs } = *training;
    let ceiling = match recipe.model {
        Model::Resnet50 => resnet50,
        Model::Alexnet => alexnet,
        Model::AlexnetBn => alexnet_bn,
    };
    let useful = useful_epochs(epochs, batch, critical);
    let mut lost = loss * (useful / REFERENCE_EPOCHS).powf(-exponent);
    if recipe.optimizer.scales_linearly() {
        lost += collapse * (batch / COLLAPSE_BATCH).powf(collapse_exponent);
    }
    if recipe.precision == Precision::Half {
        lost += half;
    }
    if !recipe.warm_up {
        lost += no_warm_up * batch / WARM_UP_BATCH;
    }
    if recipe.decay_on_bias_and_norm {
        lost += decay * batch / DECAY_BATCH;
    }
    if recipe.loses_small_gradients() {
        lost += small_gradients;
    }
    ceiling - lost
}

/// A run of known accuracy, which sets the level of its recipe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Anchor {
    /// The run.
    pub training: Training,
    /// What it reached.
    pub top1_percent: f64,
}

/// The fitted law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccuracyLaw {
    /// The parameters.
    pub posterior: Posterior,
    /// τ: by how much the level of sources differs, in points.
    pub level_spread: f64,
    /// τ₂: by how much the level of two optimizers of one source differs, in points.
    pub recipe_spread: f64,
    /// By how much a run misses the law and its level, in points.
    pub residual: f64,
    /// The batches fitted.
    pub batches: Range,
    /// The batches fitted of momentum with the linear scaling rule.
    pub momentum_batches: Range,
    /// The epochs fitted.
    pub epochs: Range,
    /// What it was fitted to.
    pub source: String,
}

impl AccuracyLaw {
    /// Whether the parameters are those of this law.
    pub fn check(&self) -> Result<(), PosteriorError> {
        self.posterior.check(PARAMETERS)
    }

    /// Top-1 in percent at the end of `training`: against `anchor` where there is one, otherwise
    /// the level of all sources.
    #[must_use]
    pub fn final_top1(&self, training: &Training, anchor: Option<&Anchor>) -> Forecast {
        let level_variance = self.level_spread.powi(2);
        let recipe_variance = self.recipe_spread.powi(2);
        let run_variance = self.residual.powi(2);
        let Some(anchor) = anchor else {
            let value = top1(&self.posterior.values(), training);
            let fitted = self.posterior.deviation(|p| top1(p, training)).powi(2);
            let variance = fitted + level_variance + recipe_variance + run_variance;
            return Forecast::percent(value, variance.sqrt(), self.outside(training));
        };
        // The level given one run: normal, of variance τ² + τ₂², seen with the noise of a run.
        // What another optimizer shares with the anchor is τ² alone.
        let same = training.recipe.optimizer == anchor.training.recipe.optimizer;
        let level = level_variance + recipe_variance;
        let shared = if same { level } else { level_variance };
        let seen = level + run_variance;
        let weight = if seen > 0.0 { shared / seen } else { 1.0 };
        let against = |p: &[f64]| top1(p, training) - weight * top1(p, &anchor.training);
        let value = against(&self.posterior.values()) + weight * anchor.top1_percent;
        let fitted = self.posterior.deviation(against).powi(2);
        let variance = fitted + (level - weight * shared).max(0.0) + run_variance;
        Forecast::percent(value, variance.sqrt(), self.outside(training))
    }

    fn outside(&self, training: &Training) -> Vec<Extrapolation> {
        let Training { recipe, batch, epochs } = *training;
        let batches =
            if recipe.optimizer.scales_linearly() { self.momentum_batches } else { self.batches };
        let mut found = outside(batch, batches, Some((epochs, self.epochs)));
        let mut single = |what: &str| found.push(Extrapolation::Recipe { what: what.to_owned() });
        if !recipe.warm_up {
            single("a single run shows what training without warm-up loses");
        }
        if recipe.decay_on_bias_and_norm {
            single("a single run shows what LARS loses with decay on bias and batch norm");
        }
        if recipe.loses_small_gradients() {
            single("a single run shows what half precision loses without loss scaling");
        }
        found
    }
}

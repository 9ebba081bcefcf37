//! What a training needs and reaches: epochs and accuracy at a global batch, from the published laws
//! or from what the user knows of their own training.
//!
//! With a critical batch of one's own (from the gradient noise scale, say) it takes the place of the
//! published one in every law. With known epochs E₁ at batch B₁ no published law is needed at all:
//!
//! ```text
//! E(B) = E₁ · (1 + B/Bc) / (1 + B₁/Bc)
//! ```

use super::accuracy::{AccuracyLaw, Anchor, Training};
use super::forecast::Forecast;
use super::known::{CriticalBatch, KnownEpochs};
use super::posterior::NORMAL_95;
use super::recipe::{Optimizer, Recipe};
use super::{Convergence, EpochsLaw};

/// Nobody trains longer; an accuracy that needs more is not reached.
pub const EPOCHS_MAX: f64 = 1000.0;
/// Nor shorter.
const EPOCHS_MIN: f64 = 0.1;
/// Halvings of the range of ln E in which the epochs of an accuracy are sought: to 1e-9 of them.
const HALVINGS: u32 = 34;
/// A target this near to that of the law of epochs is meant to be it, in points.
const SAME_TARGET: f64 = 0.05;

/// When training ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// After so many passes over the data.
    Epochs(f64),
    /// At this top-1, in percent.
    Top1(f64),
    /// At the accuracy, if it is said which, that one's own run reached.
    AsKnown {
        /// How long that took.
        known: KnownEpochs,
        /// Top-1 in percent.
        top1_percent: Option<f64>,
    },
}

/// A training, but for its batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// How it is trained; none where no published law is of the network and its data.
    pub recipe: Option<Recipe>,
    /// A run of known accuracy.
    pub anchor: Option<Anchor>,
    /// When it ends.
    pub goal: Goal,
    /// One's own critical batch, in place of the published ones.
    pub critical_batch: Option<CriticalBatch>,
}

/// What a training needs and reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Passes over the data; none where no number of them reaches the accuracy.
    pub epochs: Option<Forecast>,
    /// Top-1 in percent at the end; none where no law says.
    pub top1: Option<Forecast>,
    /// The critical batch of the law that was used.
    pub critical_batch: CriticalBatch,
    /// Whether the epochs are those of the law of epochs, of MLPerf's tuned recipes.
    pub by_law_of_epochs: bool,
    /// Why it rests on more than what was fitted: [`Forecast::extrapolated`] of what was used.
    pub extrapolated: Vec<String>,
}

/// A number that is known.
fn exactly(value: f64) -> Forecast {
    Forecast { value, low: value, high: value, extrapolated: Vec::new() }
}

impl Question {
    /// What it needs and reaches at a global batch of `batch`; none where it asks for a law that is
    /// not there: no recipe, or known epochs without any critical batch.
    #[must_use]
    pub fn at(&self, laws: &Convergence, batch: f64) -> Option<Outcome> {
        let accuracy = match &self.critical_batch {
            None => laws.accuracy.clone(),
            Some(own) => laws.accuracy.with_critical_batch(own),
        };
        let mut by_law_of_epochs = false;
        let (epochs, top1, critical_batch) = match self.goal {
            Goal::Epochs(epochs) => {
                let training = Training { recipe: self.recipe?, batch, epochs };
                let top1 = accuracy.final_top1(&training, self.anchor.as_ref());
                (Some(exactly(epochs)), Some(top1), accuracy.critical_batch())
            }
            Goal::Top1(target) => {
                let recipe = self.recipe?;
                let law = match &self.critical_batch {
                    None => laws.epochs.clone(),
                    Some(own) => laws.epochs.with_critical_batch(own),
                };
                by_law_of_epochs = law.is_of(&recipe, target) && self.anchor.is_none();
                let (epochs, critical) = if by_law_of_epochs {
                    (Some(law.epochs_to_target(batch)), law.critical_batch_known())
                } else {
                    (self.epochs_to(&accuracy, recipe, batch, target), accuracy.critical_batch())
                };
                let top1 = epochs.is_some().then(|| exactly(target));
                (epochs, top1, critical)
            }
            Goal::AsKnown { known, top1_percent } => {
                let critical = match (self.critical_batch, self.recipe) {
                    (Some(own), _) => own,
                    (None, Some(recipe)) if laws.epochs.is_of_recipe(&recipe) => {
                        laws.epochs.critical_batch_known()
                    }
                    (None, recipe) => {
                        recipe?;
                        accuracy.critical_batch()
                    }
                };
                let at = |critical: f64| {
                    known.epochs * (1.0 + batch / critical) / (1.0 + known.batch / critical)
                };
                let ends = [at(critical.low), at(critical.high)];
                let epochs = Forecast {
                    value: at(critical.images),
                    low: ends[0].min(ends[1]),
                    high: ends[0].max(ends[1]),
                    extrapolated: Vec::new(),
                };
                (Some(epochs), top1_percent.map(exactly), critical)
            }
        };
        let used = epochs.iter().chain(&top1);
        let extrapolated = used.flat_map(|f| &f.extrapolated).map(ToString::to_string).collect();
        Some(Outcome { epochs, top1, critical_batch, by_law_of_epochs, extrapolated })
    }

    /// The epochs after which the law of accuracy reaches `target`; none if it never does. The lower
    /// end is where the upper end of accuracy reaches it, and the other way round; where that is never,
    /// the end is infinite.
    fn epochs_to(
        &self,
        law: &AccuracyLaw,
        recipe: Recipe,
        batch: f64,
        target: f64,
    ) -> Option<Forecast> {
        let at =
            |epochs: f64| law.final_top1(&Training { recipe, batch, epochs }, self.anchor.as_ref());
        let first = |end: fn(&Forecast) -> f64| {
            let (mut low, mut high) = (EPOCHS_MIN.ln(), EPOCHS_MAX.ln());
            if end(&at(EPOCHS_MAX)) < target {
                return None;
            }
            for _ in 0..HALVINGS {
                let middle = low.midpoint(high);
                if end(&at(middle.exp())) < target { low = middle } else { high = middle }
            }
            Some(high.exp())
        };
        let value = first(|top1| top1.value)?;
        Some(Forecast {
            value,
            low: first(|top1| top1.high).unwrap_or(value),
            high: first(|top1| top1.low).unwrap_or(f64::INFINITY),
            extrapolated: at(value).extrapolated,
        })
    }
}

impl EpochsLaw {
    /// Whether it is of `recipe` and of the accuracy `target`, in percent.
    fn is_of(&self, recipe: &Recipe, target: f64) -> bool {
        self.is_of_recipe(recipe) && (self.target_top1_percent - target).abs() < SAME_TARGET
    }

    /// Whether it is of `recipe`: what was fitted is ResNet-50 by LARS, with nothing left out.
    fn is_of_recipe(&self, recipe: &Recipe) -> bool {
        recipe.model == super::Model::Resnet50
            && recipe.optimizer == Optimizer::Lars
            && !recipe.is_ablation()
    }

    /// The law with one's own critical batch, E0'·(1 + B/Bc): what warm-up costs more at larger batches
    /// is in that batch, and what it costs at small ones in E0'.
    #[must_use]
    pub fn with_critical_batch(&self, own: &CriticalBatch) -> Self {
        let mut law = self.clone();
        let without_warm_up = self.posterior.values().first().copied().unwrap_or(f64::NAN);
        let critical = own.images * without_warm_up / self.small_batch_epochs();
        law.posterior = law.posterior.with(super::epochs::CRITICAL, critical, own.deviation());
        law.usual_warm_up.epochs_per_image = 0.0;
        law
    }

    /// The critical batch of the usual recipe with its interval.
    #[must_use]
    pub fn critical_batch_known(&self) -> CriticalBatch {
        let images = self.critical_batch();
        let per = |law: &[f64]| {
            let at = |batch: f64| super::epochs::epochs(law, batch, &self.usual_recipe(batch));
            (at(0.0) / (at(1000.0) - at(0.0))).ln()
        };
        let factor = (NORMAL_95 * self.posterior.deviation(per)).exp();
        CriticalBatch { images, low: images / factor, high: images * factor }
    }
}

impl AccuracyLaw {
    /// The law with one's own critical batch.
    #[must_use]
    pub fn with_critical_batch(&self, own: &CriticalBatch) -> Self {
        let mut law = self.clone();
        law.posterior = law.posterior.with(super::accuracy::CRITICAL, own.images, own.deviation());
        law
    }

    /// The critical batch with its interval.
    #[must_use]
    pub fn critical_batch(&self) -> CriticalBatch {
        let images = self.posterior.values().get(super::accuracy::CRITICAL).copied();
        let images = images.unwrap_or(f64::NAN);
        let deviation = self.posterior.deviation(|p| p[super::accuracy::CRITICAL].ln());
        let factor = (NORMAL_95 * deviation).exp();
        CriticalBatch { images, low: images / factor, high: images * factor }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convergence::{Model, useful_epochs};

    fn question(goal: Goal) -> Question {
        let recipe = Recipe::usual(Model::Resnet50, Optimizer::Lars);
        Question { recipe: Some(recipe), anchor: None, goal, critical_batch: None }
    }

    fn at(question: &Question, batch: f64) -> Outcome {
        question.at(Convergence::shipped(), batch).unwrap()
    }

    /// E(B) = 12·(1 + B/4000)/(1 + 256/4000); at the ends of Bc the other way round.
    #[test]
    fn known_epochs_grow_with_the_batch_as_the_critical_batch_says() {
        let known = KnownEpochs { epochs: 12.0, batch: 256.0 };
        let own = CriticalBatch { images: 4000.0, low: 2000.0, high: 8000.0 };
        let goal = Goal::AsKnown { known, top1_percent: None };
        let question = Question { critical_batch: Some(own), recipe: None, ..question(goal) };
        let outcome = at(&question, 8000.0);
        let epochs = outcome.epochs.unwrap();
        assert!((epochs.value - 12.0 * 3.0 / 1.064).abs() < 1e-9);
        assert!((epochs.high - 12.0 * 5.0 / 1.128).abs() < 1e-9);
        assert!((epochs.low - 12.0 * 2.0 / 1.032).abs() < 1e-9);
        assert_eq!(outcome.top1, None);
        let none = Question { critical_batch: None, ..question };
        assert_eq!(none.at(Convergence::shipped(), 8000.0), None);
    }

    /// A critical batch of one's own takes the place of the published one: the value is the law's at
    /// the batch with as many useful epochs.
    #[test]
    fn ones_own_critical_batch_replaces_the_published() {
        let laws = Convergence::shipped();
        let published = laws.accuracy.critical_batch().images;
        let own =
            CriticalBatch { images: published / 2.0, low: published / 2.0, high: published / 2.0 };
        let with = Question { critical_batch: Some(own), ..question(Goal::Epochs(90.0)) };
        let top1 = at(&with, 8192.0).top1.unwrap().value;
        let same = at(&question(Goal::Epochs(90.0)), 16_384.0).top1.unwrap().value;
        assert!((top1 - same).abs() < 1e-9);
        assert_eq!(at(&with, 8192.0).critical_batch, own);
        let useful = useful_epochs(90.0, 8192.0, own.images);
        assert!((useful - useful_epochs(90.0, 16_384.0, published)).abs() < 1e-9);
        let epochs = Question { critical_batch: Some(own), ..question(Goal::Top1(75.9)) };
        let ratio =
            at(&epochs, own.images).epochs.unwrap().value / at(&epochs, 1e-9).epochs.unwrap().value;
        assert!((ratio - 2.0).abs() < 1e-6, "{ratio}");
    }

    #[test]
    fn the_target_of_the_law_of_epochs_is_asked_of_it_and_others_of_that_of_accuracy() {
        let laws = Convergence::shipped();
        let of_law = at(&question(Goal::Top1(75.9)), 32_768.0);
        assert_eq!(of_law.epochs, Some(laws.epochs_to_target(32_768.0)));
        let other = at(&question(Goal::Top1(76.2)), 32_768.0);
        let epochs = other.epochs.unwrap().value;
        let reached = at(&question(Goal::Epochs(epochs)), 32_768.0).top1.unwrap();
        assert!((reached.value - 76.2).abs() < 1e-6, "{reached:?}");
        assert!(at(&question(Goal::Top1(90.0)), 256.0).epochs.is_none());
    }

    proptest! {
        /// More epochs for more accuracy and for larger batches, and the interval holds the value.
        #[test]
        fn epochs_grow_with_target_and_batch(
            target in 70.0..77.0f64, more in 0.01..0.5f64, batch in 256.0..60_000.0f64,
        ) {
            let of = |target: f64, batch: f64| at(&question(Goal::Top1(target)), batch).epochs;
            prop_assume!((target - 75.9).abs() > 0.1 && (target + more - 75.9).abs() > 0.1);
            let (Some(few), more) = (of(target, batch), of(target + more, batch)) else {
                return Ok(());
            };
            prop_assert!(few.low <= few.value && few.value <= few.high);
            prop_assert!(more.is_none_or(|more| more.value > few.value));
            let larger = of(target, 1.1 * batch);
            prop_assert!(larger.is_none_or(|larger| larger.value > few.value));
        }
    }
}

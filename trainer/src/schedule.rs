//! The learning rate as a function of the step.
//!
//! The peak follows the linear scaling rule, peak = base · batch / 256 (Goyal et al. 2017, arXiv
//! 1706.02677, section 2.1). Warm-up leads to it (section 2.2), then the rate decays to the end of
//! training. With s the step, W the steps of warm-up and T those of the training:
//!
//! | part | rate at s |
//! |---|---|
//! | warm-up, s < W | start + (peak − start)·(s / W)^p, p = 1 or 2 |
//! | constant | peak |
//! | step | peak · factor^(milestones reached), milestones counted from step 0 |
//! | polynomial | end + (peak − end)·(1 − (s − W)/(T − W))^power |
//! | cosine | end + (peak − end)·(1 + cos π(s − W)/(T − W))/2 |
//!
//! All are continuous at W, where the rate is the peak. The polynomial of power 2 is that of LARS
//! (You et al. 2017, arXiv 1708.03888), which counts from step 0 where this counts from W; the
//! cosine is that of Loshchilov and Hutter 2016, arXiv 1608.03983, without restarts. After T the
//! rate stays what it was at T.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bad_value::{BadValue, require, require_non_negative, require_positive};

/// The settings of a schedule. The defaults train ResNet-50 as Goyal et al. do (section 5.1):
/// 90 epochs, 5 of them linear warm-up, a tenth of the rate from epochs 30, 60 and 80.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The learning rate at `reference_batch`; without linear scaling, the peak itself.
    pub base_lr: f64,
    /// Images a step, over all ranks, for which `base_lr` is meant.
    pub reference_batch: u64,
    /// Whether the peak is base_lr · batch / reference_batch.
    pub linear_scaling: bool,
    /// Passes over the data in the whole training.
    pub epochs: f64,
    /// How the rate rises to its peak.
    pub warmup: Warmup,
    /// How it falls from there.
    pub decay: Decay,
}

/// How the rate rises to its peak.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Warmup {
    /// The form of the rise.
    pub shape: WarmupShape,
    /// How long it takes, in passes over the data; parts of one are fine.
    pub epochs: f64,
    /// The rate of step 0. Goyal et al. use `base_lr`; at 0 the first step changes nothing.
    pub start_lr: f64,
}

/// The form of the rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WarmupShape {
    /// No warm-up: the first step has the peak.
    None,
    /// In proportion to the step.
    #[default]
    Linear,
    /// In proportion to the square of the step: slower at first.
    Quadratic,
}

/// How the rate falls from its peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Decay {
    /// Not at all.
    Constant(ConstantDecay),
    /// By a factor at each milestone.
    Step(StepDecay),
    /// As a power of the part of the training that is left.
    Polynomial(PolynomialDecay),
    /// As half a period of a cosine.
    Cosine(CosineDecay),
}

/// A rate that stays at its peak; no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstantDecay {}

/// The settings of a decay in steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StepDecay {
    /// The epochs from which the rate is lower, counted from the start of training, rising. One
    /// after the end of training has no effect.
    pub milestones: Vec<f64>,
    /// What each multiplies the rate by; above 0 and at most 1.
    pub factor: f64,
}

/// The settings of a polynomial decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolynomialDecay {
    /// The exponent; above 0.
    pub power: f64,
    /// The rate at the end of training.
    pub end_lr: f64,
}

/// The settings of a cosine decay.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CosineDecay {
    /// The rate at the end of training.
    pub end_lr: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            base_lr: 0.1,
            reference_batch: 256,
            linear_scaling: true,
            epochs: 90.0,
            warmup: Warmup::default(),
            decay: Decay::Step(StepDecay::default()),
        }
    }
}

impl Default for Warmup {
    fn default() -> Self {
        Self { shape: WarmupShape::Linear, epochs: 5.0, start_lr: 0.0 }
    }
}

impl Default for StepDecay {
    fn default() -> Self {
        Self { milestones: vec![30.0, 60.0, 80.0], factor: 0.1 }
    }
}

impl Default for PolynomialDecay {
    fn default() -> Self {
        Self { power: 2.0, end_lr: 0.0 }
    }
}

/// A schedule for one batch size and data set: settings that have been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    steps_per_epoch: f64,
    peak: f64,
}

impl Schedule {
    /// The schedule of `config` at `batch` images a step over all ranks and `steps_per_epoch`
    /// steps a pass over the data.
    ///
    /// # Errors
    /// A setting is out of its range, or does not go together with another.
    pub fn new(config: ScheduleConfig, batch: u64, steps_per_epoch: u64) -> Result<Self, BadValue> {
        let at_least_1 =
            |key, value: u64| require(value > 0, key, value as f64, "it must be at least 1");
        at_least_1("batch", batch)?;
        at_least_1("steps_per_epoch", steps_per_epoch)?;
        at_least_1("reference_batch", config.reference_batch)?;
        require_positive("base_lr", config.base_lr)?;
        require_positive("epochs", config.epochs)?;
        let factor =
            if config.linear_scaling { batch as f64 / config.reference_batch as f64 } else { 1.0 };
        let peak = config.base_lr * factor;
        config.warmup.check(peak, config.epochs)?;
        config.decay.check(peak, config.warmup.epochs())?;
        Ok(Self { config, steps_per_epoch: steps_per_epoch as f64, peak })
    }

    /// The rate at the end of warm-up.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.peak
    }

    /// The number of steps of the whole training, the last of them maybe in part of an epoch.
    #[must_use]
    pub fn steps(&self) -> u64 {
        (self.config.epochs * self.steps_per_epoch).ceil() as u64
    }

    /// The learning rate of a step; the first is step 0.
    #[must_use]
    pub fn learning_rate(&self, step: u64) -> f64 {
        let epoch = step as f64 / self.steps_per_epoch;
        let warmup = &self.config.warmup;
        if epoch < warmup.epochs() {
            return warmup.rate(self.peak, epoch / warmup.epochs());
        }
        let decaying = self.config.epochs - warmup.epochs();
        let left = (1.0 - (epoch - warmup.epochs()) / decaying).clamp(0.0, 1.0);
        self.config.decay.rate(self.peak, epoch, left)
    }
}

impl Warmup {
    /// The length, zero where there is no warm-up.
    fn epochs(&self) -> f64 {
        if self.shape == WarmupShape::None { 0.0 } else { self.epochs }
    }

    fn check(&self, peak: f64, epochs: f64) -> Result<(), BadValue> {
        require_non_negative("warmup.epochs", self.epochs)?;
        let need = "it must be less than `epochs`";
        require(self.epochs() < epochs, "warmup.epochs", self.epochs, need)?;
        require_non_negative("warmup.start_lr", self.start_lr)?;
        let need = "it must be at most the learning rate to which the warm-up leads";
        let rises = self.shape == WarmupShape::None || self.start_lr <= peak;
        require(rises, "warmup.start_lr", self.start_lr, need)
    }

    /// The rate after `part`, 0 to 1, of the warm-up.
    fn rate(&self, peak: f64, part: f64) -> f64 {
        let risen = match self.shape {
            WarmupShape::None => 1.0,
            WarmupShape::Linear => part,
            WarmupShape::Quadratic => part * part,
        };
        self.start_lr + (peak - self.start_lr) * risen
    }
}

impl Decay {
    fn check(&self, peak: f64, warmup_epochs: f64) -> Result<(), BadValue> {
        match self {
            Self::Constant(ConstantDecay {}) => Ok(()),
            Self::Step(StepDecay { milestones, factor }) => {
                let need = "it must be above 0 and at most 1";
                require(*factor > 0.0 && *factor <= 1.0, "decay.factor", *factor, need)?;
                let mut last = 0.0;
                for &milestone in milestones {
                    let need = "milestones must be finite, above 0 and rising";
                    let rises = milestone.is_finite() && milestone > last;
                    require(rises, "decay.milestones", milestone, need)?;
                    let need = "milestones must come after the warm-up";
                    require(milestone > warmup_epochs, "decay.milestones", milestone, need)?;
                    last = milestone;
                }
                Ok(())
            }
            Self::Polynomial(PolynomialDecay { power, end_lr }) => {
                require_positive("decay.power", *power)?;
                check_end(*end_lr, peak)
            }
            Self::Cosine(CosineDecay { end_lr }) => check_end(*end_lr, peak),
        }
    }

    /// The rate at `epoch`, with `left`, 1 to 0, of the training after warm-up still to come.
    fn rate(&self, peak: f64, epoch: f64, left: f64) -> f64 {
        match self {
            Self::Constant(ConstantDecay {}) => peak,
            Self::Step(StepDecay { milestones, factor }) => {
                let reached = milestones.iter().filter(|&&milestone| epoch >= milestone);
                reached.fold(peak, |rate, _| rate * factor)
            }
            Self::Polynomial(PolynomialDecay { power, end_lr }) => {
                end_lr + (peak - end_lr) * left.powf(*power)
            }
            // cos π(1 − left) = −cos π·left, which is exact at both ends.
            Self::Cosine(CosineDecay { end_lr }) => {
                end_lr + (peak - end_lr) * (1.0 - (PI * left).cos()) / 2.0
            }
        }
    }
}

fn check_end(end_lr: f64, peak: f64) -> Result<(), BadValue> {
    require_non_negative("decay.end_lr", end_lr)?;
    let need = "it must be at most the learning rate from which the decay starts";
    require(end_lr <= peak, "decay.end_lr", end_lr, need)
}

#[cfg(test)]
mod tests;

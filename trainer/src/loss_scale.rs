//! Loss scaling: the loss is multiplied by a scale before backward, so that small gradients stay
//! above the smallest number of half precision (2⁻²⁴), and gradients are divided by it in single
//! precision before the update (Micikevicius et al. 2017, arXiv 1710.03740, section 3.2).
//!
//! The dynamic scale follows `torch.amp.GradScaler`: a step with inf or NaN in any gradient is
//! skipped and the scale halved; after 2000 good steps in a row it is doubled.
//!
//! The decision must be the same on every rank: ask for overflow after the all-reduce, whose sums
//! carry inf and NaN everywhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bad_value::{BadValue, require, require_positive};

/// How the scale is chosen; `policy = "static"` or `policy = "dynamic"` in a file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "policy", rename_all = "kebab-case")]
pub enum LossScaleConfig {
    /// The same scale always.
    Static(StaticScale),
    /// A scale that probes for the largest one without overflow.
    Dynamic(DynamicScale),
}

/// The settings of a static scale. A step that overflows is skipped all the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticScale {
    /// What the loss is multiplied by; 1 for no scaling. Powers of two cost no accuracy.
    pub scale: f32,
}

/// The settings of a dynamic scale; the defaults are those of `torch.amp.GradScaler`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicScale {
    /// The scale of the first step.
    pub initial_scale: f32,
    /// What the scale is multiplied by after `growth_interval` good steps; above 1.
    pub growth_factor: f32,
    /// What the scale is multiplied by after an overflow; above 0 and below 1.
    pub backoff_factor: f32,
    /// How many good steps in a row until the scale grows.
    pub growth_interval: u32,
    /// The scale never falls below this. PyTorch has no such limit and can reach zero; 1 is that of
    /// TensorFlow's `DynamicLossScale`.
    pub scale_min: f32,
}

impl Default for DynamicScale {
    fn default() -> Self {
        Self {
            initial_scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            scale_min: 1.0,
        }
    }
}

impl Default for LossScaleConfig {
    fn default() -> Self {
        Self::Dynamic(DynamicScale::default())
    }
}

impl LossScaleConfig {
    fn check(&self) -> Result<(), BadValue> {
        match *self {
            Self::Static(StaticScale { scale }) => require_positive("scale", scale.into()),
            Self::Dynamic(dynamic) => dynamic.check(),
        }
    }

    fn initial_scale(&self) -> f32 {
        match *self {
            Self::Static(StaticScale { scale }) => scale,
            Self::Dynamic(DynamicScale { initial_scale, .. }) => initial_scale,
        }
    }
}

impl DynamicScale {
    fn check(&self) -> Result<(), BadValue> {
        let (initial, minimum) = (f64::from(self.initial_scale), f64::from(self.scale_min));
        require_positive("scale_min", minimum)?;
        require_positive("initial_scale", initial)?;
        let need = "it must be at least `scale_min`";
        require(initial >= minimum, "initial_scale", initial, need)?;
        let growth = f64::from(self.growth_factor);
        let need = "it must be finite and above 1";
        require(growth.is_finite() && growth > 1.0, "growth_factor", growth, need)?;
        let backoff = f64::from(self.backoff_factor);
        let need = "it must be above 0 and below 1";
        require(backoff > 0.0 && backoff < 1.0, "backoff_factor", backoff, need)?;
        let interval = self.growth_interval;
        require(interval > 0, "growth_interval", interval.into(), "it must be at least 1")
    }

    fn after(&self, state: LossScaleState, overflow: bool) -> LossScaleState {
        let LossScaleState { scale, good_steps, .. } = state;
        if overflow {
            let scale = (scale * self.backoff_factor).max(self.scale_min);
            return LossScaleState { scale, good_steps: 0, ..state };
        }
        if good_steps + 1 < self.growth_interval {
            return LossScaleState { good_steps: good_steps + 1, ..state };
        }
        let grown = scale * self.growth_factor;
        let scale = if grown.is_finite() { grown } else { scale };
        LossScaleState { scale, good_steps: 0, ..state }
    }
}

/// What a checkpoint keeps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScaleState {
    /// The scale of the next step.
    pub scale: f32,
    /// Good steps since the scale last changed or an overflow.
    pub good_steps: u32,
    /// Steps skipped since the start of training.
    pub skipped_steps: u64,
}

/// What is to be done with the gradients of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Update the weights.
    Apply,
    /// Throw the gradients away; weights, velocities and batch-norm averages stay.
    Skip,
}

/// The scale from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScaler {
    config: LossScaleConfig,
    state: LossScaleState,
}

impl LossScaler {
    /// A scaler at the start of training.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: LossScaleConfig) -> Result<Self, BadValue> {
        let scale = config.initial_scale();
        Self::resume(config, LossScaleState { scale, good_steps: 0, skipped_steps: 0 })
    }

    /// A scaler that goes on from a checkpoint. A static scale is that of the settings.
    ///
    /// # Errors
    /// A setting or the saved scale is out of its range.
    pub fn resume(config: LossScaleConfig, state: LossScaleState) -> Result<Self, BadValue> {
        config.check()?;
        require_positive("scale", state.scale.into())?;
        let scale = match config {
            LossScaleConfig::Static(StaticScale { scale }) => scale,
            LossScaleConfig::Dynamic(_) => state.scale,
        };
        Ok(Self { config, state: LossScaleState { scale, ..state } })
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &LossScaleConfig {
        &self.config
    }

    /// What to multiply the loss of the next step by, and to divide its gradients by.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.state.scale
    }

    /// What a checkpoint must keep.
    #[must_use]
    pub fn state(&self) -> LossScaleState {
        self.state
    }

    /// Judges the gradients of a step and sets the scale of the next; `overflow` says whether any
    /// of them [overflowed](crate::optimizer::Values::overflowed).
    ///
    /// To be called once a step, and before the scale of the next is read: the gradients at hand
    /// still carry the scale that was read before.
    pub fn update(&mut self, overflow: bool) -> Verdict {
        if let LossScaleConfig::Dynamic(dynamic) = self.config {
            self.state = dynamic.after(self.state, overflow);
        }
        if !overflow {
            return Verdict::Apply;
        }
        self.state.skipped_steps += 1;
        Verdict::Skip
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::optimizer::{Gradient, Values};

    fn dynamic(dynamic: DynamicScale) -> LossScaler {
        LossScaler::new(LossScaleConfig::Dynamic(dynamic)).unwrap()
    }

    #[test]
    fn the_scale_doubles_after_2000_good_steps_and_halves_on_overflow() {
        let mut scaler = dynamic(DynamicScale::default());
        for _ in 0..1999 {
            assert_eq!(scaler.update(false), Verdict::Apply);
            assert_eq!(scaler.scale(), 65536.0);
        }
        assert_eq!(scaler.update(false), Verdict::Apply);
        assert_eq!(scaler.scale(), 131_072.0);
        assert_eq!(scaler.update(true), Verdict::Skip);
        assert_eq!(scaler.scale(), 65536.0);
        // An overflow starts the count of good steps anew.
        for _ in 0..1999 {
            assert_eq!(scaler.update(false), Verdict::Apply);
        }
        assert_eq!(scaler.update(true), Verdict::Skip);
        for _ in 0..1999 {
            assert_eq!(scaler.update(false), Verdict::Apply);
        }
        assert_eq!(scaler.scale(), 32768.0);
        assert_eq!(scaler.state().skipped_steps, 2);
    }

    #[test]
    fn the_scale_stays_within_one_and_the_largest_single() {
        let mut scaler = dynamic(DynamicScale { growth_interval: 1, ..DynamicScale::default() });
        for _ in 0..200 {
            assert_eq!(scaler.update(false), Verdict::Apply);
        }
        assert_eq!(scaler.scale(), 2.0_f32.powi(127));
        for _ in 0..200 {
            assert_eq!(scaler.update(true), Verdict::Skip);
        }
        assert_eq!(scaler.scale(), 1.0);
    }

    #[test]
    fn a_static_scale_never_changes_and_skips_overflows() {
        let config = LossScaleConfig::Static(StaticScale { scale: 128.0 });
        let mut scaler = LossScaler::new(config).unwrap();
        assert_eq!(scaler.update(true), Verdict::Skip);
        for _ in 0..5000 {
            assert_eq!(scaler.update(false), Verdict::Apply);
        }
        assert_eq!(scaler.scale(), 128.0);
    }

    #[test]
    fn a_saved_scaler_goes_on_as_if_never_stopped() {
        let config = DynamicScale { growth_interval: 3, ..DynamicScale::default() };
        let mut scaler = dynamic(config);
        for overflow in [true, false, false] {
            let _ = scaler.update(overflow);
        }
        let text = serde_json::to_string(&scaler.state()).unwrap();
        let state = serde_json::from_str(&text).unwrap();
        let mut resumed = LossScaler::resume(LossScaleConfig::Dynamic(config), state).unwrap();
        assert_eq!(resumed, scaler);
        assert_eq!(resumed.update(false), Verdict::Apply);
        assert_eq!(resumed.scale(), 65536.0);
    }

    /// The gradient of a loss of w·x at x = 2⁻²⁰, times 2⁻⁷ further back, as half precision
    /// computes it: each factor is representable, their product 2⁻²⁷ is below half of 2⁻²⁴.
    fn backward(scale: f32) -> f16 {
        let loss_gradient = f16::from_f32(2.0_f32.powi(-20) * scale);
        f16::from_f32(loss_gradient.to_f32() * 2.0_f32.powi(-7))
    }

    #[test]
    fn small_gradients_are_lost_without_scaling_and_kept_with_it() {
        assert_eq!(backward(1.0), f16::ZERO);
        let scaler = dynamic(DynamicScale::default());
        let scaled = [backward(scaler.scale())];
        let gradient = Gradient { values: Values::F16(&scaled), scale: scaler.scale() };
        assert!(!gradient.values.overflowed());
        assert_eq!(gradient.norm(), 2.0_f64.powi(-27));
    }

    #[test]
    fn a_gradient_beyond_half_precision_skips_its_step_and_halves_the_scale() {
        let mut scaler = dynamic(DynamicScale::default());
        let mut applied = Vec::new();
        for _ in 0..3 {
            // 3·65536 and 3·32768 exceed 65504; 3·16384 = 49152 does not.
            let gradient = [f16::from_f32(3.0 * scaler.scale())];
            let scale = scaler.scale();
            if scaler.update(Values::F16(&gradient).overflowed()) == Verdict::Apply {
                applied.push((scale, gradient[0].to_f32() / scale));
            }
        }
        assert_eq!(applied, [(16384.0, 3.0)]);
        assert_eq!(
            scaler.state(),
            LossScaleState { scale: 16384.0, good_steps: 1, skipped_steps: 2 }
        );
    }

    #[test]
    fn settings_come_from_a_file_and_are_checked() {
        let config: LossScaleConfig = toml::from_str("policy = \"dynamic\"").unwrap();
        assert_eq!(config, LossScaleConfig::default());
        let text = "policy = \"static\"\nscale = 1024";
        let config: LossScaleConfig = toml::from_str(text).unwrap();
        assert_eq!(config, LossScaleConfig::Static(StaticScale { scale: 1024.0 }));
        for (text, message) in [
            ("policy = \"static\"\nscale = 0", "`scale` is 0: it must be finite and above 0"),
            (
                "policy = \"dynamic\"\ngrowth_factor = 1",
                "`growth_factor` is 1: it must be finite and above 1",
            ),
            (
                "policy = \"dynamic\"\nbackoff_factor = 1",
                "`backoff_factor` is 1: it must be above 0 and below 1",
            ),
            (
                "policy = \"dynamic\"\ngrowth_interval = 0",
                "`growth_interval` is 0: it must be at least 1",
            ),
            (
                "policy = \"dynamic\"\ninitial_scale = 0.5",
                "`initial_scale` is 0.5: it must be at least `scale_min`",
            ),
        ] {
            let config: LossScaleConfig = toml::from_str(text).unwrap();
            assert_eq!(LossScaler::new(config).unwrap_err().to_string(), message);
        }
        let unknown = toml::from_str::<LossScaleConfig>("policy = \"dynamic\"\nscale = 1");
        assert!(unknown.unwrap_err().to_string().contains("unknown field `scale`"));
    }
}

//! Layer-wise adaptive rate scaling: each tensor has its own learning rate, such that a step
//! changes its norm by about the same fraction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Role;
use super::momentum::check_momentum;
use crate::bad_value::{BadValue, require, require_non_negative, require_positive};

/// The two published denominators of the local rate (You, Gitman, Ginsburg 2017, arXiv 1708.03888,
/// which gives λ first without the weight decay, then with it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LarsForm {
    /// λ = η·‖w‖ / (‖g‖ + β·‖w‖ + ε).
    #[default]
    WithDecay,
    /// λ = η·‖w‖ / (‖g‖ + ε). Decay is part of the update still.
    WithoutDecay,
}

/// The settings of LARS.
///
/// v ← m·c·v + lr·λ·(g + β·w), then w ← w − v; with `clip` min(lr, λ) takes the place of lr·λ.
///
/// # Momentum correction
///
/// The learning rate is inside the velocity here (equation 10 of Goyal et al. 2017, arXiv
/// 1706.02677, section 3): after a change of rate the history still carries the old one. With
/// `momentum_correction` c = lr / (lr of the tensor's last step), which makes every term carry the
/// new rate, as if the rate were outside; else c = 1, as You et al. publish it. While warm-up
/// raises the rate, c above 1 lifts the early velocity; when a step decay cuts the rate, c below 1
/// keeps the old, long velocity from being walked for another 1/(1 − m) steps. A last rate of zero
/// leaves c = 1, and a new rate of zero forgets the history. With `clip` the rate of a tensor need
/// not follow lr, so lr / (last lr) is not its ratio: the two are refused together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", default, deny_unknown_fields)]
pub struct Lars {
    /// m, at least 0 and below 1.
    pub momentum: f64,
    /// β. The default is that of Goyal et al. for ResNet-50.
    pub weight_decay: f64,
    /// η, how much a tensor is trusted to change: with β in the denominator, ‖Δw‖ ≤ lr·η·‖w‖
    /// before momentum.
    pub coefficient: f64,
    /// ε in the denominator.
    pub epsilon: f64,
    /// Which denominator.
    pub form: LarsForm,
    /// Whether λ replaces the global rate where it is the smaller (LARC, of NVIDIA's Apex) instead
    /// of multiplying it.
    pub clip: bool,
    /// Whether a new learning rate is applied to the history too.
    pub momentum_correction: bool,
    /// Whether β also acts on biases and batch norm.
    pub decay_bias_and_batch_norm: bool,
    /// Whether biases and batch norm also have a local rate; without one they use lr itself.
    pub scale_bias_and_batch_norm: bool,
}

impl Default for Lars {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            weight_decay: 1e-4,
            coefficient: 0.001,
            epsilon: 0.0,
            form: LarsForm::WithDecay,
            clip: false,
            momentum_correction: false,
            decay_bias_and_batch_norm: false,
            scale_bias_and_batch_norm: false,
        }
    }
}

impl Lars {
    pub(super) fn check(&self) -> Result<(), BadValue> {
        check_momentum(self.momentum)?;
        require_non_negative("weight_decay", self.weight_decay)?;
        require_positive("coefficient", self.coefficient)?;
        require_non_negative("epsilon", self.epsilon)?;
        let need = "it must be off (0) with `clip`, whose local rates do not follow lr";
        let both = self.clip && self.momentum_correction;
        require(!both, "momentum_correction", 1.0, need)
    }

    /// β for a tensor of this role.
    pub(crate) fn decay(&self, role: Role) -> f64 {
        if role == Role::Weight || self.decay_bias_and_batch_norm { self.weight_decay } else { 0.0 }
    }

    /// Whether a tensor of this role has a local rate.
    pub(crate) fn scales(&self, role: Role) -> bool {
        role == Role::Weight || self.scale_bias_and_batch_norm
    }

    /// λ of a tensor with these norms and this weight decay β; no unit.
    ///
    /// 1 where either norm is zero, as in the reference implementations (Apex, TensorFlow): a
    /// tensor of zeros could never leave them otherwise.
    #[must_use]
    pub fn local_rate(&self, weight_norm: f64, gradient_norm: f64, weight_decay: f64) -> f64 {
        if weight_norm == 0.0 || gradient_norm == 0.0 {
            return 1.0;
        }
        let decay_norm = match self.form {
            LarsForm::WithDecay => weight_decay * weight_norm,
            LarsForm::WithoutDecay => 0.0,
        };
        self.coefficient * weight_norm / (gradient_norm + decay_norm + self.epsilon)
    }

    /// What multiplies g + β·w: lr·λ, or min(lr, λ) with `clip`.
    #[must_use]
    pub fn rate(&self, lr: f64, local_rate: f64) -> f64 {
        if self.clip { lr.min(local_rate) } else { lr * local_rate }
    }

    /// c, from the rate of the tensor's last step if it had one.
    pub(super) fn correction(&self, lr: f64, last_lr: f64) -> f64 {
        if self.momentum_correction && last_lr > 0.0 { lr / last_lr } else { 1.0 }
    }

    /// Updates one part of a tensor; the three slices are equally long. `momentum` is m·c.
    pub(super) fn update(
        momentum: f64,
        decay: f64,
        rate: f64,
        weights: &mut [f32],
        velocity: &mut [f32],
        gradient: &[f32],
    ) {
        let (momentum, decay, rate) = (momentum as f32, decay as f32, rate as f32);
        for ((w, v), &g) in weights.iter_mut().zip(velocity).zip(gradient) {
            *v = momentum * *v + rate * (g + decay * *w);
            *w -= *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_rates_by_hand() {
        // η = 0.5, ‖w‖ = 3, ‖g‖ = 1, β = 0.25: 1.5 / (1 + 0.75) = 6/7, and 1.5 / 1.
        let mut lars = Lars { coefficient: 0.5, ..Lars::default() };
        assert!((lars.local_rate(3.0, 1.0, 0.25) - 6.0 / 7.0).abs() < 1e-15);
        lars.form = LarsForm::WithoutDecay;
        assert_eq!(lars.local_rate(3.0, 1.0, 0.25), 1.5);
        // ε = 0.5: 1.5 / 1.5.
        lars.epsilon = 0.5;
        assert_eq!(lars.local_rate(3.0, 1.0, 0.25), 1.0);
        for (weight_norm, gradient_norm) in [(0.0, 1.0), (3.0, 0.0), (0.0, 0.0)] {
            assert_eq!(lars.local_rate(weight_norm, gradient_norm, 0.25), 1.0);
        }
    }

    #[test]
    fn larc_clips_the_local_rate_at_the_global_one() {
        let lars = Lars { clip: true, ..Lars::default() };
        assert_eq!(lars.rate(0.5, 0.25), 0.25);
        assert_eq!(lars.rate(0.5, 2.0), 0.5);
        assert_eq!(Lars::default().rate(0.5, 0.25), 0.125);
    }
}

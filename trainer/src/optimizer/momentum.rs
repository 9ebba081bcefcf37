//! Stochastic gradient descent with momentum, as in PyTorch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Role;
use crate::bad_value::{BadValue, require, require_non_negative};

/// The settings of momentum SGD (`torch.optim.SGD` with dampening 0).
///
/// d = g + β·w, v ← m·v + d, then w ← w − lr·v, or with Nesterov w ← w − lr·(d + m·v).
///
/// The learning rate is outside the velocity: a new rate acts on the whole history at once, and no
/// momentum correction is needed (Goyal et al. 2017, arXiv 1706.02677, section 3, equation 9).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", default, deny_unknown_fields)]
pub struct Momentum {
    /// m, at least 0 and below 1.
    pub momentum: f64,
    /// β. The default is that of Goyal et al. for ResNet-50.
    pub weight_decay: f64,
    /// Whether to step along d + m·v instead of v.
    pub nesterov: bool,
    /// Whether β also acts on biases and batch norm (as it does by default in PyTorch).
    pub decay_bias_and_batch_norm: bool,
}

impl Default for Momentum {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            weight_decay: 1e-4,
            nesterov: false,
            decay_bias_and_batch_norm: false,
        }
    }
}

impl Momentum {
    pub(super) fn check(&self) -> Result<(), BadValue> {
        check_momentum(self.momentum)?;
        require_non_negative("weight_decay", self.weight_decay)?;
        let momentum = self.momentum;
        let need = "it must be above 0 with Nesterov momentum";
        require(!self.nesterov || momentum > 0.0, "momentum", momentum, need)
    }

    /// β for a tensor of this role.
    pub(crate) fn decay(&self, role: Role) -> f64 {
        if role == Role::Weight || self.decay_bias_and_batch_norm { self.weight_decay } else { 0.0 }
    }

    /// Updates one part of a tensor; the three slices are equally long.
    pub(super) fn update(
        &self,
        decay: f64,
        lr: f64,
        weights: &mut [f32],
        velocity: &mut [f32],
        gradient: &[f32],
    ) {
        let (m, decay, lr) = (self.momentum as f32, decay as f32, lr as f32);
        for ((w, v), &g) in weights.iter_mut().zip(velocity).zip(gradient) {
            let d = g + decay * *w;
            *v = m * *v + d;
            *w -= lr * if self.nesterov { d + m * *v } else { *v };
        }
    }
}

/// m must be at least 0 and below 1, or v grows without bound.
pub(super) fn check_momentum(momentum: f64) -> Result<(), BadValue> {
    let need = "it must be at least 0 and below 1";
    require((0.0..1.0).contains(&momentum), "momentum", momentum, need)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_steps(rule: Momentum) -> (f32, f32) {
        let (mut w, mut v) = ([1.0], [0.0]);
        for _ in 0..2 {
            rule.update(rule.weight_decay, 0.5, &mut w, &mut v, &[0.25]);
        }
        (w[0], v[0])
    }

    #[test]
    fn two_steps_by_hand() {
        // m = 0.5, β = 0.25, lr = 0.5, g = 0.25, w = 1:
        // d = 0.25 + 0.25·1 = 0.5, v = 0.5,                         w = 1 − 0.25 = 0.75
        // d = 0.25 + 0.25·0.75 = 0.4375, v = 0.25 + 0.4375 = 0.6875, w = 0.75 − 0.34375
        let rule = Momentum { momentum: 0.5, weight_decay: 0.25, ..Momentum::default() };
        assert_eq!(two_steps(rule), (0.40625, 0.6875));
        // d = 0.5, v = 0.5, w = 1 − 0.5·(0.5 + 0.25) = 0.625
        // d = 0.25 + 0.15625 = 0.40625, v = 0.25 + 0.40625 = 0.65625,
        // w = 0.625 − 0.5·(0.40625 + 0.328125) = 0.2578125
        assert_eq!(two_steps(Momentum { nesterov: true, ..rule }), (0.257_812_5, 0.65625));
    }
}

//! A step of the optimizer over any set of tensors, and what it remembers between steps.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tensor::BLOCK;
use super::{Gradient, Lars, Momentum, TensorState, norm};
use crate::bad_value::{BadValue, require_non_negative};

/// Which update rule, with its settings; `rule = "momentum"` or `rule = "lars"` in a file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum Rule {
    /// Momentum SGD.
    Momentum(Momentum),
    /// Layer-wise adaptive rate scaling.
    Lars(Lars),
}

/// What is remembered of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorMemory {
    /// v, as long as the tensor.
    pub velocity: Vec<f32>,
    /// The learning rate of the tensor's last step.
    pub last_lr: f64,
}

/// What a checkpoint keeps of an optimizer, by the name of the tensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerState {
    /// Tensors that have been in a step.
    pub tensors: BTreeMap<String, TensorMemory>,
}

/// Why a step could not be made. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    /// A setting or the learning rate makes no sense.
    #[error(transparent)]
    BadValue(#[from] BadValue),
    /// Something of a tensor is not as long as its weights.
    #[error("the {what} of `{tensor}` has {found} elements and its weights have {expected}")]
    Length {
        /// The name of the tensor.
        tensor: String,
        /// "gradient" or "velocity".
        what: &'static str,
        /// The number of weights.
        expected: usize,
        /// The number of elements that came.
        found: usize,
    },
    /// The scale of a gradient cannot be divided by.
    #[error("the gradient of `{tensor}` has scale {scale}: it must be finite and above 0")]
    Scale {
        /// The name of the tensor.
        tensor: String,
        /// The scale.
        scale: f32,
    },
    /// Two tensors of one step have the same name.
    #[error("two tensors are called `{tensor}`")]
    Repeated {
        /// The name.
        tensor: String,
    },
}

/// An update rule and its memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    rule: Rule,
    state: OptimizerState,
}

impl Optimizer {
    /// An optimizer at the start of training: all velocities are zero.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(rule: Rule) -> Result<Self, OptimizerError> {
        Self::resume(rule, OptimizerState::default())
    }

    /// An optimizer that goes on from a checkpoint.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn resume(rule: Rule, state: OptimizerState) -> Result<Self, OptimizerError> {
        match &rule {
            Rule::Momentum(momentum) => momentum.check()?,
            Rule::Lars(lars) => lars.check()?,
        }
        Ok(Self { rule, state })
    }

    /// The rule.
    #[must_use]
    pub const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// What a checkpoint must keep.
    #[must_use]
    pub fn state(&self) -> &OptimizerState {
        &self.state
    }

    /// Updates the weights of `parameters` with the learning rate `lr`.
    ///
    /// May be called for all tensors at once or bucket by bucket, as gradients arrive: tensors do
    /// not look at each other. Gradients are taken as they are; whether they are finite is for
    /// [`LossScaler`](crate::loss_scale::LossScaler) to judge first.
    ///
    /// # Errors
    /// `lr` is negative or not finite, a slice has the wrong length, a scale is not a positive
    /// number, or a name comes twice; no weight has changed then.
    pub fn step(
        &mut self,
        parameters: &mut [TensorState<'_>],
        lr: f64,
    ) -> Result<(), OptimizerError> {
        require_non_negative("lr", lr)?;
        self.check(parameters)?;
        for tensor in parameters {
            if !self.state.tensors.contains_key(tensor.name) {
                let velocity = vec![0.0; tensor.weights.len()];
                let memory = TensorMemory { velocity, last_lr: lr };
                self.state.tensors.insert(tensor.name.to_owned(), memory);
            }
            if let Some(memory) = self.state.tensors.get_mut(tensor.name) {
                step_tensor(&self.rule, tensor, memory, lr);
            }
        }
        Ok(())
    }

    fn check(&self, parameters: &[TensorState<'_>]) -> Result<(), OptimizerError> {
        let mut names = BTreeSet::new();
        for TensorState { name, weights, gradient, .. } in parameters {
            if !names.insert(*name) {
                return Err(OptimizerError::Repeated { tensor: (*name).to_owned() });
            }
            if !(gradient.scale.is_finite() && gradient.scale > 0.0) {
                let (tensor, scale) = ((*name).to_owned(), gradient.scale);
                return Err(OptimizerError::Scale { tensor, scale });
            }
            let velocity = self.state.tensors.get(*name).map(|memory| memory.velocity.len());
            let expected = weights.len();
            let lengths = [("gradient", Some(gradient.values.len())), ("velocity", velocity)];
            for (what, found) in lengths {
                if let Some(found) = found.filter(|&found| found != expected) {
                    let tensor = (*name).to_owned();
                    return Err(OptimizerError::Length { tensor, what, expected, found });
                }
            }
        }
        Ok(())
    }
}

fn step_tensor(rule: &Rule, tensor: &mut TensorState<'_>, memory: &mut TensorMemory, lr: f64) {
    let TensorState { role, weights, gradient, .. } = tensor;
    let velocity = &mut memory.velocity;
    match rule {
        Rule::Momentum(momentum) => {
            let decay = momentum.decay(*role);
            update(weights, velocity, *gradient, |w, v, g| momentum.update(decay, lr, w, v, g));
        }
        Rule::Lars(lars) => {
            let decay = lars.decay(*role);
            let rate = if lars.scales(*role) {
                lars.rate(lr, lars.local_rate(norm(weights), gradient.norm(), decay))
            } else {
                lr
            };
            let momentum = lars.momentum * lars.correction(lr, memory.last_lr);
            update(weights, velocity, *gradient, |w, v, g| {
                Lars::update(momentum, decay, rate, w, v, g);
            });
        }
    }
    memory.last_lr = lr;
}

/// Calls `rule` with parts of weights, velocity and gradient; blocks side by side.
fn update(
    weights: &mut [f32],
    velocity: &mut [f32],
    gradient: Gradient<'_>,
    rule: impl Fn(&mut [f32], &mut [f32], &[f32]) + Sync,
) {
    let blocks = weights.par_chunks_mut(BLOCK).zip(velocity.par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(block, (weights, velocity))| {
        let first = block * BLOCK;
        gradient.for_each_chunk(first..first + weights.len(), |start, gradient| {
            let part = start - first..start - first + gradient.len();
            rule(&mut weights[part.clone()], &mut velocity[part], gradient);
        });
    });
}

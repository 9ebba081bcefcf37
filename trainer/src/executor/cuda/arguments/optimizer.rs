//! All tensors of an optimizer's step in a few launches.

use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};
use crate::loss_scale::{DynamicScale, LossScaleConfig, StaticScale};
use crate::optimizer::{LarsForm, Role, Rule};

/// Elements of a tensor that one block of [`OptimizerNorms`] and [`OptimizerUpdate`] looks at.
pub const PART_ELEMENTS: usize = 1 << 14;

/// Bytes before the rates of the tensors: a `f32` that gradients are multiplied by (the reciprocal of
/// the step's loss scale) and a `f32` that velocities are multiplied by (momentum, corrected).
pub const RATES_HEADER: usize = 8;

kernel_arguments! {
    /// Writes [`StepInput`], so that the host need not wait for a copy; one block.
    "set_step" SetStep {
        /// Of the optimizer.
        learning_rate: f64,
        /// The seed of this step's dropout.
        dropout_key: u64,
        /// The number of this rank's first image in the global batch.
        first_image: u64,
        /// Where it goes.
        to: Address,
        /// 1 / global batch.
        reciprocal_batch: f32,
    }

    /// Each block, of its part of one tensor: Σ w², Σ (g / scale)² and how many g are not finite. A
    /// grid of as many blocks as there are [`parts`].
    "optimizer_norms" OptimizerNorms {
        /// [`TensorEntry`] of each tensor.
        tensors: Address,
        /// For each block, a `u32`: the tensor it belongs to.
        parts: Address,
        /// Three `f64` for each block.
        partial: Address,
        /// [`StepState`].
        state: Address,
        /// The format of gradients.
        gradient_format: u32,
    }

    /// From the blocks' sums: whether the step is skipped, what each tensor's gradient is multiplied by,
    /// and the next loss scale; one block.
    "optimizer_rates" OptimizerRates {
        /// [`TensorEntry`] of each tensor.
        tensors: Address,
        /// What [`OptimizerNorms`] wrote.
        partial: Address,
        /// [`RATES_HEADER`] and then two `f32` for each tensor: rate and decay.
        rates: Address,
        /// [`StepInput`].
        input: Address,
        /// [`StepState`].
        state: Address,
        /// [`RuleEntry`].
        rule: Address,
        /// Tensors.
        tensor_count: u32,
    }

    /// Each block: new velocities, weights and rounded copies of its part of one tensor, unless the
    /// step is skipped. A grid of as many blocks as there are [`parts`].
    "optimizer_update" OptimizerUpdate {
        /// [`TensorEntry`] of each tensor.
        tensors: Address,
        /// For each block, a `u32`: the tensor it belongs to.
        parts: Address,
        /// What [`OptimizerRates`] wrote.
        rates: Address,
        /// [`StepState`].
        state: Address,
        /// [`RuleEntry`].
        rule: Address,
        /// The format of gradients.
        gradient_format: u32,
    }
}

macro_rules! memory {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl $name {
                /// As C lays it out.
                #[must_use]
                pub fn to_bytes(&self) -> Vec<u8> {
                    layout(&[$(&self.$field),*])
                }

                /// Its bytes.
                #[must_use]
                pub fn size() -> usize {
                    layout(&[$(&<$type as Zero>::ZERO),*]).len()
                }
            }
        )*
    };
}

memory! {
    /// What the host says before each step.
    StepInput {
        /// Of the optimizer.
        learning_rate: f64,
        /// The seed of this step's dropout.
        dropout_key: u64,
        /// The number of this rank's first image in the global batch.
        first_image: u64,
        /// 1 / global batch.
        reciprocal_batch: f32,
    }

    /// What a step leaves to the next.
    StepState {
        /// The learning rate of the last step that changed weights; negative before the first.
        last_learning_rate: f64,
        /// Steps that were skipped since the start of training.
        skipped_steps: u64,
        /// What the loss is multiplied by before backward.
        loss_scale: f32,
        /// Steps since the scale last changed or an overflow.
        good_steps: u32,
        /// Whether the last step's gradients overflowed, so that no weight changed.
        skipped: u32,
        /// What the loss of the last step was multiplied by.
        last_loss_scale: f32,
    }

    /// A tensor of an optimizer's step.
    TensorEntry {
        /// Single-precision weights, aligned to 16 bytes, as are velocity and copy.
        weights: Address,
        /// Single-precision velocity.
        velocity: Address,
        /// The sum of the gradients of all ranks, in the format they travel in; aligned to its numbers.
        gradient: Address,
        /// Where rounded weights go, in the format of activations; null for nowhere.
        copy: Address,
        /// How many numbers each of these has.
        elements: u64,
        /// The first block that looks at it.
        first_part: u32,
        /// [`tensor_flags`].
        flags: u32,
    }

    /// The rule of an optimizer and of the loss scale, which do not change.
    RuleEntry {
        /// m.
        momentum: f64,
        /// β.
        weight_decay: f64,
        /// η of LARS.
        coefficient: f64,
        /// ε of LARS.
        epsilon: f64,
        /// 0: momentum SGD, 1: LARS.
        rule: u32,
        /// Nesterov momentum.
        nesterov: u32,
        /// LARS without decay in its denominator.
        without_decay: u32,
        /// LARS with min(lr, λ) in the place of lr · λ.
        clip: u32,
        /// LARS whose velocity follows changes of the learning rate.
        momentum_correction: u32,
        /// Whether the loss scale changes.
        dynamic_scale: u32,
        /// What a dynamic scale is multiplied by after enough good steps.
        growth_factor: f32,
        /// What it is multiplied by after an overflow.
        backoff_factor: f32,
        /// How many good steps are enough.
        growth_interval: u32,
        /// The scale never falls below this.
        scale_min: f32,
    }
}

impl StepState {
    /// What [`Self::to_bytes`] gives.
    pub const BYTES: usize = 32;

    /// From the bytes that C laid out.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| -> [u8; 4] { std::array::from_fn(|index| bytes[at + index]) };
        let long = |at: usize| -> [u8; 8] { std::array::from_fn(|index| bytes[at + index]) };
        Self {
            last_learning_rate: f64::from_le_bytes(long(0)),
            skipped_steps: u64::from_le_bytes(long(8)),
            loss_scale: f32::from_le_bytes(word(16)),
            good_steps: u32::from_le_bytes(word(20)),
            skipped: u32::from_le_bytes(word(24)),
            last_loss_scale: f32::from_le_bytes(word(28)),
        }
    }
}

/// How tensors of so many elements are cut into parts, one for each block: for each block the tensor
/// it belongs to, and for each tensor its first block. A tensor without elements has no part.
#[must_use]
pub fn parts(elements: &[usize]) -> (Vec<u32>, Vec<u32>) {
    let (mut tensor_of_block, mut first_parts) = (Vec::new(), Vec::with_capacity(elements.len()));
    for (tensor, elements) in elements.iter().enumerate() {
        let first = tensor_of_block.len();
        first_parts.push(first as u32);
        tensor_of_block.resize(first + elements.div_ceil(PART_ELEMENTS), tensor as u32);
    }
    (tensor_of_block, first_parts)
}

/// What a rule does to a tensor of this role: 1 if decay acts on it, plus 2 if it has a local rate.
#[must_use]
pub fn tensor_flags(rule: &Rule, role: Role) -> u32 {
    let (decay, scales) = match rule {
        Rule::Momentum(momentum) => (momentum.decay(role), false),
        Rule::Lars(lars) => (lars.decay(role), lars.scales(role)),
    };
    u32::from(decay > 0.0) + 2 * u32::from(scales)
}

impl RuleEntry {
    /// From the settings.
    #[must_use]
    pub fn new(rule: &Rule, loss_scale: &LossScaleConfig) -> Self {
        let mut entry = Self {
            momentum: 0.0,
            weight_decay: 0.0,
            coefficient: 0.0,
            epsilon: 0.0,
            rule: 0,
            nesterov: 0,
            without_decay: 0,
            clip: 0,
            momentum_correction: 0,
            dynamic_scale: 0,
            growth_factor: 1.0,
            backoff_factor: 1.0,
            growth_interval: 0,
            scale_min: 0.0,
        };
        match *rule {
            Rule::Momentum(momentum) => {
                entry.momentum = momentum.momentum;
                entry.weight_decay = momentum.weight_decay;
                entry.nesterov = momentum.nesterov.into();
            }
            Rule::Lars(lars) => {
                entry.momentum = lars.momentum;
                entry.weight_decay = lars.weight_decay;
                entry.coefficient = lars.coefficient;
                entry.epsilon = lars.epsilon;
                entry.rule = 1;
                entry.without_decay = (lars.form == LarsForm::WithoutDecay).into();
                entry.clip = lars.clip.into();
                entry.momentum_correction = lars.momentum_correction.into();
            }
        }
        match *loss_scale {
            LossScaleConfig::Static(StaticScale { .. }) => {}
            LossScaleConfig::Dynamic(DynamicScale {
                growth_factor,
                backoff_factor,
                growth_interval,
                scale_min,
                ..
            }) => {
                entry.dynamic_scale = 1;
                entry.growth_factor = growth_factor;
                entry.backoff_factor = backoff_factor;
                entry.growth_interval = growth_interval;
                entry.scale_min = scale_min;
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::optimizer::{Lars, Momentum};

    #[test]
    fn parts_by_hand() {
        let sizes = [1, PART_ELEMENTS, 0, PART_ELEMENTS + 1, 3 * PART_ELEMENTS];
        assert_eq!(parts(&sizes), (vec![0, 1, 3, 3, 4, 4, 4], vec![0, 1, 2, 2, 4]));
        assert_eq!(parts(&[]), (vec![], vec![]));
    }

    proptest! {
        /// Each element of each tensor is in one part, as a block finds it: its part's number is its
        /// own less the first of its tensor.
        #[test]
        fn every_element_is_in_one_part(
            sizes in prop::collection::vec(0..5 * PART_ELEMENTS, 0..20),
        ) {
            let (tensor_of_block, first_parts) = parts(&sizes);
            prop_assert_eq!(first_parts.len(), sizes.len());
            let mut seen = vec![0; sizes.len()];
            for (block, &tensor) in tensor_of_block.iter().enumerate() {
                let tensor = tensor as usize;
                let part = block - first_parts[tensor] as usize;
                prop_assert_eq!(part * PART_ELEMENTS, seen[tensor], "parts follow each other");
                seen[tensor] = sizes[tensor].min(seen[tensor] + PART_ELEMENTS);
            }
            prop_assert_eq!(seen, sizes);
        }
    }

    #[test]
    fn flags_are_what_the_rule_says_of_roles() {
        let roles = [Role::Weight, Role::Bias, Role::BatchNorm];
        let of = |rule| roles.map(|role| tensor_flags(&rule, role));
        assert_eq!(of(Rule::Momentum(Momentum::default())), [1, 0, 0]);
        let all = Momentum { decay_bias_and_batch_norm: true, ..Momentum::default() };
        assert_eq!(of(Rule::Momentum(all)), [1, 1, 1]);
        assert_eq!(of(Rule::Lars(Lars::default())), [3, 0, 0]);
        let scaled = Lars { scale_bias_and_batch_norm: true, ..Lars::default() };
        assert_eq!(of(Rule::Lars(scaled)), [3, 2, 2]);
        let decayed = Lars { decay_bias_and_batch_norm: true, ..Lars::default() };
        assert_eq!(of(Rule::Lars(decayed)), [3, 1, 1]);
        assert_eq!(of(Rule::Lars(Lars { weight_decay: 0.0, ..decayed })), [2, 0, 0]);
    }
}

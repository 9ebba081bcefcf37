//! All tensors of an optimizer's step in a few launches.

use super::{Address, Arguments, Field, Zero, kernel_arguments, layout};

/// Elements of a tensor that one block of [`OptimizerNorms`] and [`OptimizerUpdate`] looks at.
pub const PART_ELEMENTS: usize = 1 << 14;

/// Bytes before the rates of the tensors: a `f32` that gradients are multiplied by (the reciprocal of
/// the step's loss scale) and a `f32` that velocities are multiplied by (momentum, corrected).
pub const RATES_HEADER: usize = 8;

kernel_arguments! {
    /// Each block, of its part of one tensor: Σ w², Σ (g / scale)² and whether any g is not finite.
    "optimizer_norms" OptimizerNorms {
        /// [`TensorEntry`] of each tensor.
        tensors: Address,
        /// For each block, a `u32`: the tensor it belongs to.
        parts: Address,
        /// Three `f64` for each block.
        partial: Address,
        /// [`StepState`](super::StepState).
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

    /// Each block: new velocities, weights and rounded copies of its part of one tensor.
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
        /// Single-precision weights.
        weights: Address,
        /// Single-precision velocity.
        velocity: Address,
        /// The sum of the gradients of all ranks, in the format they travel in.
        gradient: Address,
        /// Where rounded weights go, in the format of activations.
        copy: Address,
        /// How many numbers each of these has.
        elements: u64,
        /// The first block that looks at it.
        first_part: u32,
        /// 1 if decay acts on it, plus 2 if it has a local rate.
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

//! `[schedule]`: the learning rate from step to step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schedule::{Decay, ScheduleConfig, Warmup};

/// The learning rate from step to step; `epochs` is that of `[training]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSection {
    /// The learning rate at `reference_batch`; without linear scaling, the peak itself.
    pub base_lr: f64,
    /// Images a step, over all ranks, for which `base_lr` is meant.
    #[schemars(range(min = 1))]
    pub reference_batch: u64,
    /// Whether the peak is base_lr · global_batch / reference_batch.
    pub linear_scaling: bool,
    /// How the rate rises to its peak.
    pub warmup: Warmup,
    /// How it falls from there.
    pub decay: Decay,
}

impl Default for ScheduleSection {
    fn default() -> Self {
        let ScheduleConfig { base_lr, reference_batch, linear_scaling, warmup, decay, .. } =
            ScheduleConfig::default();
        Self { base_lr, reference_batch, linear_scaling, warmup, decay }
    }
}

impl ScheduleSection {
    /// The settings of the schedule over so many epochs.
    pub(super) fn over(&self, epochs: f64) -> ScheduleConfig {
        let Self { base_lr, reference_batch, linear_scaling, warmup, decay } = self.clone();
        ScheduleConfig { base_lr, reference_batch, linear_scaling, epochs, warmup, decay }
    }
}

//! `[training]`: how much is computed, in which precision, and when it ends.

use std::path::PathBuf;

use foretrain_sim::located::Problem;
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::units::Fraction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::executor::cuda::step::Launch;
use crate::loss_scale::{LossScaleConfig, StaticScale};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    /// This machine's processor.
    #[default]
    Cpu,
    /// NVIDIA GPUs, one a rank.
    Cuda,
    /// A replay of a profile's layer times, which computes nothing: for measuring communication where
    /// there are more ranks than cores.
    Paced,
}

/// How much is computed, in which precision, and when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Images of a step, over all ranks.
    #[schemars(range(min = 1))]
    pub global_batch: u32,
    /// Ranks, as threads of this process; 1 by default. With transports `tcp` and `mpi` there is one
    /// a process, and the launcher says how many.
    #[schemars(range(min = 1))]
    pub ranks: Option<u32>,
    /// Passes over the data, over which the learning rate decays.
    pub epochs: f64,
    /// What computes.
    pub device: DeviceName,
    /// The profile whose layer times a paced device replays.
    pub pace: Option<PathBuf>,
    /// How a step's work is given to a GPU: as one graph, which is the default, or kernel by kernel.
    pub launch: Option<Launch>,
    /// The format of activations and gradients. Arithmetic, master weights, statistics and updates
    /// are in single precision always, losses in double.
    pub precision: NumberFormat,
    /// How much of the label is spread evenly over all classes.
    pub label_smoothing: f64,
    /// What the loss is multiplied by before backward; dynamic by default in f16, else 1.
    pub loss_scale: Option<LossScaleConfig>,
    /// Threads that one rank computes with; the cores divided by the ranks by default.
    #[schemars(range(min = 1))]
    pub threads_per_rank: Option<u32>,
    /// Epochs from one evaluation to the next, such as 0.25; 0 for none. Each comes after the nearest
    /// whole step. One always follows the last epoch.
    #[schemars(range(min = 0))]
    pub evaluate_every: f64,
    /// The accuracy at which training stops, such as "75.9 %".
    pub target_top1: Option<Fraction>,
    /// Steps after which training stops, wherever the schedule is.
    #[schemars(range(min = 1))]
    pub steps_max: Option<u64>,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            global_batch: 256,
            ranks: None,
            epochs: 90.0,
            device: DeviceName::default(),
            pace: None,
            launch: None,
            precision: NumberFormat::F32,
            label_smoothing: 0.0,
            loss_scale: None,
            threads_per_rank: None,
            evaluate_every: 1.0,
            target_top1: None,
            steps_max: None,
        }
    }
}

impl TrainingConfig {
    /// What the loss is multiplied by before backward.
    #[must_use]
    pub fn loss_scale(&self) -> LossScaleConfig {
        let fixed = LossScaleConfig::Static(StaticScale { scale: 1.0 });
        let usual =
            if self.precision == NumberFormat::F16 { LossScaleConfig::default() } else { fixed };
        self.loss_scale.unwrap_or(usual)
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        let require = |holds: bool, key: &str, problem: &str| {
            if holds { Ok(()) } else { Err(Problem::new(&format!("training.{key}"), problem)) }
        };
        let at_least_1 = "0, expected at least 1";
        require(self.global_batch > 0, "global_batch", at_least_1)?;
        require(self.ranks != Some(0), "ranks", at_least_1)?;
        require(self.threads_per_rank != Some(0), "threads_per_rank", at_least_1)?;
        require(self.steps_max != Some(0), "steps_max", at_least_1)?;
        let fits = self.launch.is_none() || self.device == DeviceName::Cuda;
        require(fits, "launch", "this is for device cuda: leave it out")?;
        let paced = self.device == DeviceName::Paced;
        require(paced || self.pace.is_none(), "pace", "this is for device paced: leave it out")?;
        let problem = "the profile whose layer times are replayed is missing: give it";
        require(!paced || self.pace.is_some(), "pace", problem)?;
        let smoothing = self.label_smoothing;
        let problem = format!("{smoothing}, expected at least 0 and below 1");
        require((0.0..1.0).contains(&smoothing), "label_smoothing", &problem)?;
        let every = self.evaluate_every;
        let problem = format!("{every}, expected a number of epochs, 0 for none");
        require(every.is_finite() && every >= 0.0, "evaluate_every", &problem)?;
        let target = self.target_top1.map_or(0.5, Fraction::get);
        let problem = "expected above 0 % and below 100 %";
        require(target > 0.0 && target < 1.0, "target_top1", problem)
    }
}

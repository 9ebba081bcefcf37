//! Configurations: what `foretrain train` reads.
//!
//! A configuration is a TOML text; `docs/training.md` lists every key with its default. The types
//! here are the file format: they read it, and the JSON Schema is generated from them. Whatever is
//! wrong is one error with line, column, key, what was expected and how to mend it. What only the
//! data can tell (classes, images of one size, enough of them for a batch) is checked once they are
//! open.
//!
//! ```
//! use foretrain_trainer::config::Config;
//!
//! let config = Config::from_toml(
//!     r#"
//!         name = "a small test"
//!         [network]
//!         model = "resnet-cifar"
//!         [data]
//!         kind = "synthetic"
//!         [training]
//!         global_batch = 64
//!         epochs = 20
//!     "#,
//! )?;
//! assert_eq!(config.network.depth(), 20);
//! assert_eq!(config.per_rank_batch(1), 64);
//! # Ok::<(), foretrain_sim::located::LocatedError>(())
//! ```

mod augmentation;
mod communication;
mod data;
mod fingerprint;
mod intervals;
mod network;
mod output;
mod paths;
mod schedule;
#[cfg(test)]
mod tests;
mod training;

pub use augmentation::{AugmentationConfig, Crop};
pub use communication::{
    Algorithm, Backend, CommunicationConfig, FusionConfig, FusionName, Transport,
};
pub use data::{DataConfig, DataKind, SyntheticConfig};
pub use fingerprint::{Difference, Fingerprint};
pub use intervals::{Every, StepRange};
pub use network::{ModelName, NetworkConfig};
pub use output::{OutputConfig, RecordingConfig};
pub use paths::Paths;
pub use schedule::ScheduleSection;
pub use training::{DeviceName, TrainingConfig};

use foretrain_sim::located::{Document, LocatedError, Problem};
use foretrain_sim::recording::NumberFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bad_value::BadValue;
use crate::data::augment::{Layout, Preparation, SettingError};
use crate::loss_scale::{DynamicScale, LossScaler, StaticScale};
use crate::optimizer::{Lars, Momentum, Optimizer, OptimizerError, Rule};
use crate::schedule::{
    ConstantDecay, CosineDecay, PolynomialDecay, Schedule, ScheduleConfig, StepDecay,
};

/// A training run, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The title of the run.
    pub name: String,
    /// Decides initial weights, shuffles, augmentation and dropout.
    #[serde(default = "seed")]
    pub seed: u64,
    /// What is trained.
    pub network: NetworkConfig,
    /// Which images, and how they are read.
    pub data: DataConfig,
    /// How much is computed, in which precision, and when it ends.
    #[serde(default)]
    pub training: TrainingConfig,
    /// How gradients become new weights; momentum by default.
    #[serde(default = "rule")]
    pub optimizer: Rule,
    /// The learning rate from step to step.
    #[serde(default)]
    pub schedule: ScheduleSection,
    /// How gradients are summed over the ranks.
    #[serde(default)]
    pub communication: CommunicationConfig,
    /// What a run leaves behind.
    #[serde(default)]
    pub output: OutputConfig,
}

fn seed() -> u64 {
    1
}

fn rule() -> Rule {
    Rule::Momentum(Momentum::default())
}

/// The JSON Schema of configurations, generated from these types.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    schema["title"] = "Foretrain training run".into();
    schema
}

/// Settings that decide when and where something happens, not what is computed.
const WITHOUT_EFFECT: [&str; 17] = [
    "name",
    "network.weights",
    "data.folder",
    "data.train",
    "data.eval",
    "data.workers",
    "data.prefetch",
    "data.corrupt_max",
    "training.threads_per_rank",
    "training.launch",
    "training.evaluate_every",
    "training.target_top1",
    "training.steps_max",
    "communication.overlap",
    "communication.timeout",
    "communication.transport",
    "output",
];

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// On the first thing that is wrong, saying where it is and how to mend it.
    pub fn from_toml(text: &str) -> Result<Self, LocatedError> {
        let document = Document::parse(text)?;
        check_tagged(&document)?;
        let config: Self = document.read()?;
        config.check().map_err(|problem| document.located(problem))?;
        Ok(config)
    }

    /// Pixels of a side of the input.
    #[must_use]
    pub fn image_size(&self) -> u32 {
        self.network.image_size(self.data.image_size())
    }

    /// Channels of the input: 1 (grey) or 3.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.data.augmentation.mean_and_std(self.data.kind).0.len()
    }

    /// Images that each of `world` ranks takes in a step.
    #[must_use]
    pub fn per_rank_batch(&self, world: u32) -> u32 {
        self.training.global_batch / world.max(1)
    }

    /// Images of a rank that are normalised together.
    #[must_use]
    pub fn batch_norm_span(&self, world: u32) -> u32 {
        self.network.batch_norm_span.unwrap_or(self.per_rank_batch(world))
    }

    /// The format of gradients on the wire.
    #[must_use]
    pub fn wire(&self) -> NumberFormat {
        self.communication.wire.unwrap_or(self.training.precision)
    }

    /// The settings of the learning rate.
    #[must_use]
    pub fn schedule(&self) -> ScheduleConfig {
        self.schedule.over(self.training.epochs)
    }

    /// What is done to images for training, and what for evaluation.
    ///
    /// # Errors
    /// None after the checks of [`Config::from_toml`].
    pub fn preparations(&self, layout: Layout) -> Result<[Preparation; 2], SettingError> {
        self.data.augmentation.preparation(self.data.kind, self.image_size(), layout)
    }

    /// The settings that change what `world` ranks compute, for checkpoints. What the data turn out
    /// to be can be [added](Fingerprint::insert).
    #[must_use]
    pub fn fingerprint(&self, world: u32) -> Fingerprint {
        // A configuration always has a form in JSON.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        // Defaults count as if they were written.
        let (mean, std) = self.data.augmentation.mean_and_std(self.data.kind);
        let network = &self.network;
        value["network"]["image_size"] = self.image_size().into();
        value["network"]["batch_norm_momentum"] = network.batch_norm_momentum().into();
        value["network"]["batch_norm_epsilon"] = network.batch_norm_epsilon().into();
        value["network"]["batch_norm_span"] = self.batch_norm_span(world).into();
        value["network"]["batch_norm_after_pool5"] = network.batch_norm_after_pool5().into();
        value["network"]["zero_gamma"] = network.zero_gamma().into();
        value["network"]["dropout"] = network.dropout().into();
        value["network"]["depth"] = network.depth().into();
        let (training, _) = self.data.augmentation.transforms(self.data.kind, self.image_size());
        value["data"]["augmentation"] = json!({
            "training": format!("{training:?}"),
            "mean": mean,
            "std": std,
        });
        value["data"]["synthetic"] = match self.data.kind {
            DataKind::Synthetic => json!(self.data.synthetic()),
            _ => json!(null),
        };
        value["training"]["loss_scale"] = json!(self.training.loss_scale());
        value["training"]["ranks"] = world.into();
        value["communication"]["wire"] = json!(self.wire());
        value["communication"]["fusion"] = format!("{:?}", self.communication.fusion()).into();
        let mut fingerprint = Fingerprint::of(&value);
        // Checkpoints from before there was a choice are of the processor.
        if self.training.device == DeviceName::Cpu {
            fingerprint.remove("training.device");
        } else {
            // Either adds in an order of its own.
            fingerprint
                .insert("communication.backend", format!("{:?}", self.communication.backend()));
        }
        for key in WITHOUT_EFFECT {
            fingerprint.remove(key);
        }
        fingerprint
    }

    fn check(&self) -> Result<(), Problem> {
        if self.name.chars().any(char::is_control) {
            return Err(Problem::new("name", "expected a name without control characters"));
        }
        let image_size = self.image_size();
        self.network.check(image_size)?;
        self.data.check(image_size, self.network.classes)?;
        self.training.check()?;
        self.communication.check()?;
        if self.communication.backend.is_some() && self.training.device != DeviceName::Cuda {
            let problem = "this is for training.device cuda: leave it out";
            return Err(Problem::new("communication.backend", problem));
        }
        self.output.check()?;
        if self.training.target_top1.is_some() && !self.data.has_evaluation() {
            let problem = "there are no images to evaluate on: give data.eval, or leave it out";
            return Err(Problem::new("training.target_top1", problem));
        }
        Optimizer::new(self.optimizer).map_err(|error| match error {
            OptimizerError::BadValue(value) => bad_value("optimizer", &value),
            other => Problem::new("optimizer", other.to_string()),
        })?;
        LossScaler::new(self.training.loss_scale())
            .map_err(|value| bad_value("training.loss_scale", &value))?;
        Schedule::new(self.schedule(), u64::from(self.training.global_batch), 1).map_err(
            |value| match value.key {
                "epochs" => bad_value("training", &value),
                _ => bad_value("schedule", &value),
            },
        )?;
        match (self.communication.transport, self.training.ranks) {
            (Transport::Threads, ranks) => self.check_world(ranks.unwrap_or(1)),
            (Transport::Tcp | Transport::Mpi, None | Some(1)) => Ok(()),
            (Transport::Tcp | Transport::Mpi, Some(_)) => {
                let problem =
                    "with transports tcp and mpi the launcher says how many: leave it out";
                Err(Problem::new("training.ranks", problem))
            }
        }
    }

    /// Whether batch, span and groups can be divided over `world` ranks; for transports that know
    /// only at the start how many there are.
    ///
    /// # Errors
    /// When one cannot.
    pub fn check_world(&self, world: u32) -> Result<(), Problem> {
        let batch = self.training.global_batch;
        if world == 0 || !batch.is_multiple_of(world) {
            let problem = format!("{batch}, which {world} ranks cannot share evenly");
            return Err(Problem::new("training.global_batch", problem));
        }
        let (span, per_rank) = (self.batch_norm_span(world), self.per_rank_batch(world));
        if span == 0 || !per_rank.is_multiple_of(span) {
            let problem = format!("{span}, which does not divide the {per_rank} images of a rank");
            return Err(Problem::new("network.batch_norm_span", problem));
        }
        match self.communication.group {
            Some(group) if group == 0 || !world.is_multiple_of(group) => {
                let problem = format!("{group}, which does not divide the {world} ranks");
                Err(Problem::new("communication.group", problem))
            }
            _ => Ok(()),
        }
    }
}

fn bad_value(section: &str, value: &BadValue) -> Problem {
    let BadValue { key, value, need } = value;
    Problem::new(&format!("{section}.{key}"), format!("{value}: {need}"))
}

/// Reads what a tag stands for by itself, so that errors in it are found where they stand.
fn check_tagged(document: &Document<'_>) -> Result<(), LocatedError> {
    fn read<T: serde::de::DeserializeOwned>(
        document: &Document<'_>,
        path: &str,
        tag: &str,
    ) -> Result<(), LocatedError> {
        document.read_table::<T>(path, tag).map(drop)
    }
    let tagged = |path: &str, tag: &str| document.text_at(&format!("{path}.{tag}"));
    match tagged("optimizer", "rule") {
        Some("momentum") => read::<Momentum>(document, "optimizer", "rule")?,
        Some("lars") => read::<Lars>(document, "optimizer", "rule")?,
        _ => {}
    }
    let decay = "schedule.decay";
    match tagged(decay, "kind") {
        Some("constant") => read::<ConstantDecay>(document, decay, "kind")?,
        Some("step") => read::<StepDecay>(document, decay, "kind")?,
        Some("polynomial") => read::<PolynomialDecay>(document, decay, "kind")?,
        Some("cosine") => read::<CosineDecay>(document, decay, "kind")?,
        _ => {}
    }
    let scale = "training.loss_scale";
    match tagged(scale, "policy") {
        Some("static") => read::<StaticScale>(document, scale, "policy"),
        Some("dynamic") => read::<DynamicScale>(document, scale, "policy"),
        _ => Ok(()),
    }
}

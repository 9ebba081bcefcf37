//! `[data]`: which images, and how they are read.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use foretrain_sim::located::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::augmentation::AugmentationConfig;
use super::paths::Paths;

/// Workers at most; more is a slip of the hand.
const WORKERS_MAX: u32 = 1024;
/// Batches ahead at most.
const PREFETCH_MAX: u32 = 1024;

/// The kinds of datasets that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// A folder of one folder of images for each class.
    ImageFolder,
    /// Tar archives of `key.jpg` and `key.cls`.
    TarShards,
    /// CIFAR-10, binary version.
    Cifar10,
    /// CIFAR-100, binary version.
    Cifar100,
    /// The files of MNIST and Fashion-MNIST.
    Idx,
    /// Images made up from the seed.
    Synthetic,
}

impl DataKind {
    /// Whether images are photographs of many sizes.
    pub(super) const fn has_photographs(self) -> bool {
        matches!(self, Self::ImageFolder | Self::TarShards)
    }

    const fn has_folder(self) -> bool {
        matches!(self, Self::Cifar10 | Self::Cifar100 | Self::Idx)
    }

    const fn classes(self) -> Option<u32> {
        match self {
            Self::Cifar10 => Some(10),
            Self::Cifar100 => Some(100),
            _ => None,
        }
    }
}

/// Which images, and how they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The kind of the dataset.
    pub kind: DataKind,
    /// The folder with the files of `cifar10`, `cifar100` or `idx`, named as they ship.
    pub folder: Option<PathBuf>,
    /// What to train on: the folder of an `image-folder`; for `tar-shards` a folder of .tar files,
    /// read in the order of their names, or a list of files.
    pub train: Option<Paths>,
    /// What to evaluate on, in the same way; without it there are no evaluations.
    pub eval: Option<Paths>,
    /// Threads that decode, for all ranks of this machine together; as many as there are cores by
    /// default.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<u32>,
    /// Batches of a rank that are prepared ahead; 2 by default.
    #[schemars(range(min = 1, max = 1024))]
    pub prefetch: Option<u32>,
    /// Images that each rank may skip in an epoch because they cannot be read; 0 by default.
    pub corrupt_max: Option<u32>,
    /// How images become inputs.
    #[serde(default)]
    pub augmentation: AugmentationConfig,
    /// How many images are made up (`synthetic`).
    pub synthetic: Option<SyntheticConfig>,
}

/// How many images are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticConfig {
    /// Images to train on.
    #[schemars(range(min = 1))]
    pub samples: u32,
    /// Images to evaluate on; 0 for no evaluations.
    pub eval_samples: u32,
    /// Classes.
    #[schemars(range(min = 1))]
    pub classes: u32,
}

impl Default for SyntheticConfig {
    /// The numbers of ImageNet.
    fn default() -> Self {
        Self { samples: 1_281_167, eval_samples: 50_000, classes: 1000 }
    }
}

impl DataConfig {
    /// Batches of a rank that are prepared ahead.
    #[must_use]
    pub fn prefetch(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.prefetch.unwrap_or(2) as usize).unwrap_or(NonZeroUsize::MIN)
    }

    /// Images of an epoch that may be skipped.
    #[must_use]
    pub fn corrupt_max(&self) -> u32 {
        self.corrupt_max.unwrap_or(0)
    }

    /// How many images are made up.
    #[must_use]
    pub fn synthetic(&self) -> SyntheticConfig {
        self.synthetic.unwrap_or_default()
    }

    /// Whether there is something to evaluate on.
    #[must_use]
    pub fn has_evaluation(&self) -> bool {
        match self.kind {
            DataKind::ImageFolder | DataKind::TarShards => self.eval.is_some(),
            DataKind::Cifar10 | DataKind::Cifar100 | DataKind::Idx => true,
            DataKind::Synthetic => self.synthetic().eval_samples > 0,
        }
    }

    /// Pixels of a side, where all images have one size that is known before they are read.
    pub(super) const fn image_size(&self) -> Option<u32> {
        match self.kind {
            DataKind::Cifar10 | DataKind::Cifar100 => Some(32),
            DataKind::Idx => Some(28),
            _ => None,
        }
    }

    pub(super) fn check(&self, image_size: u32, classes: Option<u32>) -> Result<(), Problem> {
        let kind = self.kind;
        let (folder, train) = (self.folder.is_some(), self.train.is_some());
        let photographs = kind.has_photographs();
        for (key, given, fits, wanted) in [
            ("folder", folder, kind.has_folder(), "cifar10, cifar100 and idx"),
            ("train", train, photographs, "image-folder and tar-shards"),
            ("eval", self.eval.is_some(), photographs, "image-folder and tar-shards"),
            ("synthetic", self.synthetic.is_some(), kind == DataKind::Synthetic, "synthetic"),
        ] {
            if given && !fits {
                let problem = format!("this is for data of kind {wanted}: leave it out");
                return Err(Problem::new(&format!("data.{key}"), problem));
            }
        }
        if kind.has_folder() && !folder {
            return Err(Problem::new(
                "data.folder",
                "the folder of the dataset is missing: give it",
            ));
        }
        if photographs && !train {
            return Err(Problem::new(
                "data.train",
                "the images to train on are missing: give them",
            ));
        }
        for (key, paths) in [("data.train", &self.train), ("data.eval", &self.eval)] {
            let Some(paths) = paths else { continue };
            if paths.0.is_empty() || (kind == DataKind::ImageFolder && paths.0.len() > 1) {
                let problem = format!("{} paths, expected one folder", paths.0.len());
                return Err(Problem::new(key, problem));
            }
        }
        for (key, value, most) in [
            ("data.workers", self.workers, WORKERS_MAX),
            ("data.prefetch", self.prefetch, PREFETCH_MAX),
        ] {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(Problem::new(key, format!("{value}, expected 1 to {most}")));
            }
        }
        let SyntheticConfig { samples, classes: made_up, .. } = self.synthetic();
        for (key, value) in [("samples", samples), ("classes", made_up)] {
            if value == 0 {
                let key = format!("data.synthetic.{key}");
                return Err(Problem::new(&key, "0, expected at least 1"));
            }
        }
        if let DataKind::Cifar10 | DataKind::Cifar100 = kind
            && image_size != 32
        {
            let problem = format!("{image_size}, but images of CIFAR have 32 pixels");
            return Err(Problem::new("network.image_size", problem));
        }
        let of_data = if kind == DataKind::Synthetic { Some(made_up) } else { kind.classes() };
        if let (Some(given), Some(of_data)) = (classes, of_data)
            && given < of_data
        {
            let problem = format!("{given}, but the data have {of_data} classes");
            return Err(Problem::new("network.classes", problem));
        }
        self.augmentation.check(kind, image_size)
    }
}

//! Profiles: what calibration found of a machine, for forecasts to rest on.
//!
//! A profile is JSON, written by a program. It has everything that was measured in a form that can be
//! simulated, each part optional: layer times of one network ([`ComputeProfile`]), links inside nodes
//! and between them ([`LinkProfile`]), packing, variation of steps, input. Beside these stand the
//! measurements that the simulator is to reproduce, all-reduces ([`CollectiveProfile`]) and steps
//! ([`StepProfile`]), and what is doubtful ([`ProfileWarning`]).
//!
//! *Units* are in the names of keys: `_us` microseconds, `_bytes`, `_percent`. Every fitted number is
//! an [`Estimate`] with its interval of 95 % confidence.
//!
//! *Versions.* `profile` is the version of the format. Within a version keys may be added, and
//! readers ignore keys that they do not know.

mod check;
mod compute;
mod estimate;
mod links;
mod read;
mod steps;

#[cfg(test)]
pub(crate) mod tests;

pub use compute::{BatchTimes, ComputeProfile, LayerEntry, TensorEntry};
pub use estimate::Estimate;
pub use links::{
    CollectiveProfile, CurvePoint, HeldOutError, LinkProfile, LinkProfiles, LinkRange,
};
pub use read::ProfileError;
pub use steps::{AllReduceEntry, EntryError, FusionEntry, StepProfile};

use serde::{Deserialize, Serialize};

use crate::jitter::JitterDistribution;
use crate::units::{Bytes, SimDuration};

/// The version of the format.
pub const VERSION: u32 = 1;

/// What calibration found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The version of the format: [`VERSION`].
    pub profile: u32,
    /// The version of Foretrain that wrote it.
    pub foretrain: String,
    /// How it came about.
    pub origin: Origin,
    /// What was measured on.
    pub machine: MachineEntry,
    /// Layer times of one network on one accelerator.
    #[serde(default)]
    pub compute: Option<ComputeProfile>,
    /// What copying gradients together and apart takes.
    #[serde(default)]
    pub packing: Option<PackingProfile>,
    /// What messages take.
    #[serde(default)]
    pub links: LinkProfiles,
    /// Whole all-reduces, as measured.
    #[serde(default)]
    pub collectives: Vec<CollectiveProfile>,
    /// How compute varies from step to step.
    #[serde(default)]
    pub jitter: Option<JitterProfile>,
    /// How images come.
    #[serde(default)]
    pub input: Option<InputProfile>,
    /// The scale of the gradients' noise.
    #[serde(default)]
    pub gradient_noise: Option<GradientNoise>,
    /// What the machine costs, as far as it was said.
    #[serde(default)]
    pub cost: Option<CostEntry>,
    /// Whole steps, as measured.
    #[serde(default)]
    pub steps: Vec<StepProfile>,
    /// What is doubtful about it.
    #[serde(default)]
    pub warnings: Vec<ProfileWarning>,
    /// The raw measurements behind it, in a file beside it.
    #[serde(default)]
    pub measurements: Option<FileHash>,
}

/// How a profile came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Which procedure: `calibrate`, `recordings`, `kineto`, `nccl-tests`.
    pub procedure: String,
    /// The command that made it.
    pub command: String,
    /// When it was measured: a date, or a date and time, of ISO 8601.
    pub measured: String,
    /// The seed of the bootstrap and of random orders.
    pub seed: u64,
}

/// What was measured on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineEntry {
    /// The processor or accelerator, in words.
    pub device: String,
    /// Threads of a rank; 0 where the device decides.
    #[serde(default)]
    pub threads: u32,
    /// All ranks.
    pub ranks: u32,
    /// Ranks of one node.
    pub ranks_per_node: u32,
    /// What carried messages between ranks, in words.
    #[serde(default)]
    pub transport: String,
    /// The driver of the accelerator, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The memory of one accelerator, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// What copying a bucket of S bytes on the wire together, or apart, takes: fixed + S · rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PackingProfile {
    /// Of packing a bucket of no bytes.
    pub pack_us: Estimate,
    /// For each million bytes more.
    pub pack_us_per_mb: Estimate,
    /// Of unpacking a bucket of no bytes.
    pub unpack_us: Estimate,
    /// For each million bytes more.
    pub unpack_us_per_mb: Estimate,
}

impl PackingProfile {
    /// What packing and unpacking a bucket take.
    #[must_use]
    pub fn times(&self, bytes: Bytes) -> (SimDuration, SimDuration) {
        let mb = bytes.get() as f64 / 1e6;
        let time = |fixed: Estimate, rate: Estimate| {
            SimDuration::from_seconds((fixed.value + rate.value * mb) / 1e6)
        };
        (time(self.pack_us, self.pack_us_per_mb), time(self.unpack_us, self.unpack_us_per_mb))
    }
}

/// How the compute of a rank varies from step to step, about its median.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JitterProfile {
    /// The distribution that fits best of those that can be simulated.
    pub distribution: JitterDistribution,
    /// Standard deviation over mean.
    pub variation: Estimate,
    /// The best of all candidates, such as `shifted-lognormal`.
    pub best: String,
    /// The largest distance between the measured and the fitted distribution function (Kolmogorov and
    /// Smirnov).
    pub ks_distance: f64,
    /// The probability of a larger distance if the fit were true.
    pub ks_probability: f64,
    /// The correlation of a step with the one before.
    pub autocorrelation: f64,
    /// The share of steps that took far longer than the others, and are left out.
    #[serde(default)]
    pub paused_share: f64,
    /// Steps behind it, over all ranks.
    pub steps: u64,
    /// Ranks that are slower than the others in every step, with how many times as long they take.
    #[serde(default)]
    pub slow_ranks: Vec<(u32, f64)>,
}

/// How images come to a rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputProfile {
    /// What one worker takes to decode and prepare an image.
    pub decode_us_per_image: Estimate,
    /// What reading the bytes of an image takes, by one reader.
    #[serde(default)]
    pub read_us_per_image: Option<Estimate>,
    /// Workers of a node.
    pub workers_per_node: u32,
    /// Batches that are prepared ahead.
    pub prefetch_batches: u32,
    /// What was read, in words.
    pub data: String,
}

/// The simple noise scale of McCandlish et al. 2018 (arXiv 1812.06162, appendix A.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientNoise {
    /// tr(Σ) / |G|², in images.
    pub scale_images: Estimate,
    /// The first and the last step whose gradients were taken.
    pub steps: (u64, u64),
    /// Images behind the local and behind the averaged gradient.
    pub batches: (u64, u64),
}

impl GradientNoise {
    /// The critical batch that the steps measured stand for, in images, with its interval; none where
    /// that reaches down to 0, so that nothing bounds it.
    ///
    /// The noise scale grows while a network learns. Of steps at the start of a training, this is
    /// what its first part needs, and a lower bound for the whole; of a whole training see
    /// [`critical_batch`](crate::convergence::noise_scale::critical_batch).
    #[must_use]
    pub fn critical_batch(&self) -> Option<Estimate> {
        let Estimate { low, high, .. } = self.scale_images;
        (low > 0.0 && high.is_finite()).then_some(self.scale_images)
    }
}

/// What the machine costs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CostEntry {
    /// US dollars of one accelerator for one hour.
    #[serde(default)]
    pub usd_per_accelerator_hour: Option<f64>,
    /// Watts of one accelerator with its share of the node.
    #[serde(default)]
    pub watts_per_accelerator: Option<f64>,
}

/// Something doubtful about a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileWarning {
    /// Its kind, such as `drift`.
    pub code: String,
    /// Of which measurement.
    pub about: String,
    /// What was seen, and what to do.
    pub message: String,
}

/// A file and what must be in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Its name, in the folder of the profile.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

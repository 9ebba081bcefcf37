//! Measured steps, and the settings that they were measured with.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Estimate;
use crate::collective::{Algorithm, AlgorithmName, Between, Inside};
use crate::fusion::Fusion;
use crate::units::Bytes;

/// How all-reduces are done, as text can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllReduceEntry {
    /// The algorithm.
    pub algorithm: AlgorithmName,
    /// Ranks of one group (hierarchical, hybrid, torus).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// How ranks of a group reduce and spread (hierarchical, hybrid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
    /// How the masters of groups all-reduce (hierarchical, hybrid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<Between>,
    /// The smallest bucket that goes by ring (hybrid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_from_bytes: Option<u64>,
}

/// An entry that says too little, or something that cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryError(String);

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EntryError {}

impl AllReduceEntry {
    /// What has no further settings, such as a ring.
    #[must_use]
    pub const fn plain(algorithm: AlgorithmName) -> Self {
        Self { algorithm, group: None, inside: None, between: None, ring_from_bytes: None }
    }
}

impl From<Algorithm> for AllReduceEntry {
    fn from(algorithm: Algorithm) -> Self {
        let plain = Self::plain(algorithm.name());
        match algorithm {
            Algorithm::Hierarchical { group, inside, between } => {
                Self { group: Some(group), inside: Some(inside), between: Some(between), ..plain }
            }
            Algorithm::Hybrid { group, inside, between, ring_from } => Self {
                group: Some(group),
                inside: Some(inside),
                between: Some(between),
                ring_from_bytes: Some(ring_from.get()),
                ..plain
            },
            Algorithm::Torus { group } => Self { group: Some(group), ..plain },
            _ => plain,
        }
    }
}

impl TryFrom<AllReduceEntry> for Algorithm {
    type Error = EntryError;

    fn try_from(entry: AllReduceEntry) -> Result<Self, EntryError> {
        let name = entry.algorithm;
        let missing = |key: &str| EntryError(format!("{name} needs `{key}`: give it"));
        let group = || entry.group.ok_or_else(|| missing("group"));
        let (inside, between) =
            (entry.inside.unwrap_or_default(), entry.between.unwrap_or_default());
        Ok(match name {
            AlgorithmName::Ring => Self::Ring,
            AlgorithmName::HalvingDoubling => Self::HalvingDoubling,
            AlgorithmName::Tree => Self::Tree,
            AlgorithmName::InNetwork => Self::InNetwork,
            AlgorithmName::Torus => Self::Torus { group: group()? },
            AlgorithmName::Hierarchical => Self::Hierarchical { group: group()?, inside, between },
            AlgorithmName::Hybrid => Self::Hybrid {
                group: group()?,
                inside,
                between,
                ring_from: Bytes::new(
                    entry.ring_from_bytes.ok_or_else(|| missing("ring_from_bytes"))?,
                ),
            },
            AlgorithmName::Nccl => {
                let problem = "what NCCL chooses is not one algorithm: name it";
                return Err(EntryError(problem.to_owned()));
            }
        })
    }
}

impl fmt::Display for AllReduceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.algorithm.to_string();
        if let Some(group) = self.group {
            text += &format!(" {group}");
        }
        if let Some(bytes) = self.ring_from_bytes {
            text += &format!(", ring from {}", Bytes::new(bytes));
        }
        f.pad(&text)
    }
}

/// Which gradients travel together, as text can say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum FusionEntry {
    /// Each tensor alone.
    Tensor,
    /// All together.
    OneBucket,
    /// A bucket is closed as soon as it holds at least this much.
    Threshold {
        /// The size.
        threshold_bytes: u64,
    },
    /// A bucket is closed after each of these layers.
    Segments {
        /// The layers.
        after: Vec<String>,
    },
}

impl From<&FusionEntry> for Fusion {
    fn from(entry: &FusionEntry) -> Self {
        match entry {
            FusionEntry::Tensor => Self::Tensor,
            FusionEntry::OneBucket => Self::OneBucket,
            FusionEntry::Threshold { threshold_bytes } => {
                Self::Threshold(Bytes::new(*threshold_bytes))
            }
            FusionEntry::Segments { after } => Self::Segments(after.clone()),
        }
    }
}

impl TryFrom<&Fusion> for FusionEntry {
    type Error = EntryError;

    fn try_from(fusion: &Fusion) -> Result<Self, EntryError> {
        Ok(match fusion {
            Fusion::Tensor => Self::Tensor,
            Fusion::OneBucket => Self::OneBucket,
            Fusion::Threshold(bytes) => Self::Threshold { threshold_bytes: bytes.get() },
            Fusion::Segments(after) => Self::Segments { after: after.clone() },
            Fusion::MgWfbp { .. } => {
                let problem = "the trainer does not know beforehand when gradients are ready: \
                               expected another rule of fusion than mg-wfbp";
                return Err(EntryError(problem.to_owned()));
            }
            Fusion::Cycle { .. } => {
                let problem = "the trainer has no cycles: expected another rule of fusion";
                return Err(EntryError(problem.to_owned()));
            }
        })
    }
}

impl fmt::Display for FusionEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor => f.pad("tensor"),
            Self::OneBucket => f.pad("one bucket"),
            Self::Threshold { threshold_bytes } => f.pad(&Bytes::new(*threshold_bytes).to_string()),
            Self::Segments { after } => f.pad(&format!("after {}", after.join(", "))),
        }
    }
}

/// The time of whole steps with some settings, as measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProfile {
    /// All ranks.
    pub ranks: u32,
    /// Ranks of one node.
    pub ranks_per_node: u32,
    /// Images of one rank's step.
    pub per_rank_batch: u64,
    /// How buckets are summed.
    pub all_reduce: AllReduceEntry,
    /// Which gradients travel together.
    pub fusion: FusionEntry,
    /// Bytes of one gradient element on the wire.
    pub wire_element_bytes: u64,
    /// Whether buckets travel while backward goes on.
    pub overlap: bool,
    /// From the end of a step to the end of the next: the median.
    pub step_us: Estimate,
    /// The mean of the same.
    pub step_mean_us: f64,
    /// Steps behind it.
    pub steps: u32,
}

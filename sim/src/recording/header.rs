//! The first line of a recording: what ran, on what, and the tables that events point into.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A format of floating-point numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NumberFormat {
    /// IEEE single precision, four bytes.
    #[default]
    F32,
    /// IEEE half precision, two bytes.
    F16,
    /// The upper half of single precision, two bytes.
    Bf16,
}

impl NumberFormat {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of one number.
    #[must_use]
    pub const fn element_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format: [`VERSION`](super::VERSION).
    pub recording: u32,
    /// The version of Foretrain that wrote it.
    pub foretrain: String,
    /// The network, by the name people call it.
    pub network: String,
    /// Channels, rows and columns of one input image.
    pub input: [u64; 3],
    /// All ranks of the run.
    pub ranks: u32,
    /// The rank that wrote this, from 0.
    pub rank: u32,
    /// Images that each rank takes in one step.
    pub per_rank_batch: u64,
    /// The format in which forward and backward compute.
    pub precision: NumberFormat,
    /// The format in which gradients travel.
    pub wire: NumberFormat,
    /// What computed, in words: the processor's or accelerator's model.
    pub device: String,
    /// Threads that this rank computes with; 0 where the device decides.
    pub threads: u32,
    /// The update rule, such as `lars`.
    pub optimizer: String,
    /// Which gradients travel together, such as `threshold 25 MiB`.
    pub fusion: String,
    /// How gradients are summed, such as `hierarchical, groups of 8`.
    pub algorithm: String,
    /// The seed of the run.
    pub seed: u64,
    /// When the run started: a date, or a date with its time, of ISO 8601.
    pub started: String,
    /// What a step executes, in forward order; events name an instruction by its place, from 0.
    pub instructions: Vec<Instruction>,
    /// The names of all parameter tensors; events name a tensor by its place, from 0.
    pub tensors: Vec<String>,
    /// The parameters of each of these tensors, if they are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensor_elements: Vec<u64>,
    /// Which tensors travel together, in the order of the backward pass; events name a bucket by
    /// its place, from 0.
    pub buckets: Vec<BucketEntry>,
}

/// One instruction of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// The node of the network, such as `layer1.0.conv1`.
    pub name: String,
    /// What it computes, such as `convolution`; fused ones are joined by `+`.
    pub operation: String,
    /// Floating-point operations of forward for the rank's batch, if they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_flop: Option<u64>,
    /// Floating-point operations of backward for the rank's batch, if they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backward_flop: Option<u64>,
}

/// Tensors that travel together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketEntry {
    /// The places of its tensors in [`Header::tensors`].
    pub tensors: Vec<u32>,
    /// Its size on the wire.
    pub bytes: u64,
}

impl Header {
    /// The line, without its end.
    ///
    /// # Errors
    /// None that a header can cause: every field has a form in JSON.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

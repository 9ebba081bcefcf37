//! Raw measurements: every repeat of everything, as it was measured, and nothing that was fitted.
//!
//! They are JSON beside the profile that was fitted from them, so that another version can fit them
//! again. Times are in seconds, or in nanoseconds where a recording has them.

use std::fmt;

use foretrain_sim::profile::{AllReduceEntry, FusionEntry, LayerEntry, MachineEntry};
use foretrain_sim::recording::NumberFormat;
use serde::{Deserialize, Serialize};

/// The version of the format.
pub const VERSION: u32 = 1;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// The version of the format: [`VERSION`].
    pub measurements: u32,
    /// The version of Foretrain that measured.
    pub foretrain: String,
    /// Which procedure: `calibrate`, `recordings`, `kineto`, `nccl-tests`.
    pub procedure: String,
    /// The command.
    pub command: String,
    /// When: a date and time of ISO 8601.
    pub measured: String,
    /// The seed of random orders and of the bootstrap.
    pub seed: u64,
    /// On what.
    pub machine: MachineEntry,
    /// What was trained, if anything was.
    #[serde(default)]
    pub network: Option<NetworkEntry>,
    /// Recorded steps, a series for each batch.
    #[serde(default)]
    pub compute: Vec<ComputeSeries>,
    /// Messages between two ranks.
    #[serde(default)]
    pub links: Vec<LinkSeries>,
    /// Whole all-reduces among all ranks.
    #[serde(default)]
    pub collectives: Vec<CollectiveSeries>,
    /// Whole steps that were not recorded.
    #[serde(default)]
    pub steps: Vec<StepSeries>,
    /// How images come.
    #[serde(default)]
    pub input: Option<InputSeries>,
    /// ‖g‖² of steps, local and averaged.
    #[serde(default)]
    pub norms: Option<NormSeries>,
    /// What was seen of the machine meanwhile, such as clocks that were lowered.
    #[serde(default)]
    pub observations: Vec<Observation>,
    /// US dollars of one accelerator for one hour, if it was said.
    #[serde(default)]
    pub usd_per_accelerator_hour: Option<f64>,
    /// Watts of one accelerator with its share of the node, if it was said.
    #[serde(default)]
    pub watts_per_accelerator: Option<f64>,
}

/// What was trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEntry {
    /// The network, by the name people call it.
    pub name: String,
    /// Channels, rows and columns of one input image.
    pub input: [u64; 3],
    /// The format in which forward and backward compute.
    pub precision: NumberFormat,
    /// The format in which gradients travel.
    pub wire: NumberFormat,
    /// The update rule.
    pub optimizer: String,
    /// What a step executes, in forward order.
    pub layers: Vec<LayerEntry>,
}

/// Recorded steps of one rank, after each other, whose buckets travelled after backward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeSeries {
    /// Images of a rank's step.
    pub batch: u64,
    /// Whether buckets travelled while backward went on.
    pub overlap: bool,
    /// The steps of rank 0.
    pub steps: Vec<RecordedStep>,
    /// Forward, backward and update of each rank, step by step, in nanoseconds.
    pub rank_compute_ns: Vec<Vec<u64>>,
    /// From step to step with the same settings and nothing recorded, in seconds.
    #[serde(default)]
    pub periods_s: Vec<f64>,
}

/// One recorded step, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordedStep {
    /// The whole step, from asking for images to the end of the update.
    pub step_ns: u64,
    /// Waiting for images.
    pub input_wait_ns: u64,
    /// Between the end of backward and the beginning of the update.
    pub exposed_ns: u64,
    /// The update.
    pub optimizer_ns: u64,
    /// Forward of each layer.
    pub forward_ns: Vec<u64>,
    /// Backward of each layer.
    pub backward_ns: Vec<u64>,
    /// The buckets.
    pub buckets: Vec<RecordedBucket>,
}

/// One bucket of a recorded step, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordedBucket {
    /// Its size on the wire.
    pub bytes: u64,
    /// Tensors in it.
    pub tensors: u32,
    /// Copying together.
    pub pack_ns: u64,
    /// Summing, waiting for other ranks included.
    pub all_reduce_ns: u64,
    /// Copying apart.
    pub unpack_ns: u64,
}

impl RecordedStep {
    /// Forward of all layers.
    #[must_use]
    pub fn forward_total_ns(&self) -> u64 {
        sum(&self.forward_ns)
    }

    /// Backward of all layers.
    #[must_use]
    pub fn backward_total_ns(&self) -> u64 {
        sum(&self.backward_ns)
    }

    /// Forward, backward and update.
    #[must_use]
    pub fn compute_ns(&self) -> u64 {
        sum(&[self.forward_total_ns(), self.backward_total_ns(), self.optimizer_ns])
    }

    /// What is nothing of all that is named.
    #[must_use]
    pub fn rest_ns(&self) -> u64 {
        let named = sum(&[self.compute_ns(), self.input_wait_ns, self.exposed_ns]);
        self.step_ns.saturating_sub(named)
    }
}

/// The sum of times, which a file may say are longer than any.
fn sum(times_ns: &[u64]) -> u64 {
    times_ns.iter().copied().fold(0, u64::saturating_add)
}

/// Where two ranks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// On one node.
    IntraNode,
    /// On two nodes.
    InterNode,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IntraNode => "intra-node link",
            Self::InterNode => "inter-node link",
        })
    }
}

/// Messages between two ranks, both ways at once, each received and added: half of an all-reduce by a
/// ring of two, which sends half of its data in each of two rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkSeries {
    /// Where the two are.
    pub scope: Scope,
    /// What messages took.
    pub sizes: Vec<SizeSeries>,
}

/// All-reduces among all ranks by one algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectiveSeries {
    /// How it was done.
    pub all_reduce: AllReduceEntry,
    /// Ranks that took part.
    pub ranks: u32,
    /// Ranks of one node.
    pub ranks_per_node: u32,
    /// What they took on the slowest rank.
    pub sizes: Vec<SizeSeries>,
}

/// Repeats of one size, in the order in which they were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SizeSeries {
    /// Bytes of the message, or of each rank's data.
    pub message_bytes: u64,
    /// What each repeat took.
    pub seconds: Vec<f64>,
}

/// Whole steps with some settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSeries {
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
    /// From step to step.
    pub periods_s: Vec<f64>,
}

/// How images come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSeries {
    /// What was read, in words.
    pub data: String,
    /// What one worker took for an image, read and prepared, batch by batch.
    pub decode_s_per_image: Vec<f64>,
    /// What reading an image alone took, batch by batch.
    pub read_s_per_image: Vec<f64>,
    /// Workers of a node.
    pub workers_per_node: u32,
    /// Batches that are prepared ahead.
    pub prefetch_batches: u32,
}

/// ‖g‖² of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NormSeries {
    /// The first step.
    pub first_step: u64,
    /// Images behind a rank's own gradient.
    pub per_rank_batch: u64,
    /// Images behind the averaged gradient.
    pub global_batch: u64,
    /// The mean over ranks of ‖g‖² of their own gradients, and ‖g‖² of the averaged one, step by
    /// step.
    pub local_and_averaged: Vec<(f64, f64)>,
}

/// Something that was seen of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Observation {
    /// The processor or accelerator was slower at the end than its clock allows at the beginning.
    ClockThrottled {
        /// MHz at the beginning.
        before_mhz: f64,
        /// The lowest that was seen.
        lowest_mhz: f64,
    },
    /// Other processes used the device.
    OtherProcess {
        /// Which, in words.
        who: String,
        /// The share of the processors' time, 0 to 1.
        share: f64,
    },
    /// Sizes were left out because they would have taken too long.
    SizesLeftOut {
        /// Of what.
        about: String,
        /// The largest size that was measured.
        largest_bytes: u64,
    },
    /// Something was not measured.
    NotMeasured {
        /// What, and why.
        what: String,
    },
    /// Messages had the sizes that training makes, too few or too close together for a curve: their
    /// times are taken as proportional to them.
    TrainingSizes {
        /// Of which link.
        scope: Scope,
    },
    /// Something about a trace that is to be known.
    Traced {
        /// About what.
        about: String,
        /// What, and how to mend it.
        what: String,
    },
}

/// Why raw measurements cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MeasurementsError(String);

impl Measurements {
    /// Reads raw measurements.
    ///
    /// # Errors
    /// If they are not JSON, of another version, or lack a key.
    pub fn read(text: &str) -> Result<Self, MeasurementsError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            measurements: u32,
        }
        let about = "these are not raw measurements of foretrain calibrate";
        let VersionOnly { measurements } = serde_json::from_str(text)
            .map_err(|error| MeasurementsError(format!("{about}: {error}")))?;
        if measurements != VERSION {
            return Err(MeasurementsError(format!(
                "format version {measurements}, but this version of foretrain reads {VERSION}"
            )));
        }
        serde_json::from_str(text).map_err(|error| MeasurementsError(error.to_string()))
    }

    /// The text of the measurements.
    ///
    /// # Errors
    /// None that measurements can cause: every field has a form in JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

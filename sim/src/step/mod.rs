//! One training step on every rank, from the fetch of a batch to the update of the weights.
//!
//! # What a rank does
//!
//! Four streams a rank, each doing one thing at a time:
//!
//! - *input*: the rank's share of the node's decode workers fills a queue of batches;
//! - *copy*: a decoded batch goes to the device once one of two device buffers is free;
//! - *compute*: forward, backward, then the optimizer once the last bucket has come back;
//! - *communication*: buckets in order; each is packed, all-reduced and unpacked. A bucket starts
//!   as soon as its last gradient is ready (with overlap) or after the backward pass (without).
//!
//! A rank enters an all-reduce when its own bucket is ready; the collective's messages make it wait
//! for whoever comes late. All of a rank's compute in a step is multiplied by the rank's jitter
//! factor of that step.
//!
//! # Two engines
//!
//! [`run_arrays`] evaluates this as recurrences over arrays of ranks; [`run_events`] runs every
//! stream and message through the event engine and is the reference. Both give the same
//! [`StepTimes`], to the picosecond.

mod account;
mod arrays;
mod events;

#[cfg(test)]
mod tests;

pub use account::{Account, StepSummary};
pub use arrays::run_arrays;
pub use events::{EventSteps, StepError, run_events};

use crate::collective::{CollectiveError, Folding, Layout, Plan};
use crate::compute::ComputeTimes;
use crate::fusion::{Fusion, Gradient};
use crate::jitter::Jitter;
use crate::network::Interconnect;
use crate::profile::PackingProfile;
use crate::units::{Bandwidth, Bytes, SimDuration};

/// How batches come to a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputPipeline {
    /// What the rank's share of workers and storage takes for one batch.
    pub decode: SimDuration,
    /// What the copy of one batch to the device takes.
    pub copy: SimDuration,
    /// How many decoded batches the host may hold, at least one.
    pub prefetch_batches: u32,
}

/// What it takes to copy a bucket's gradients together, and its sums apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packing {
    /// Each byte is read and written once, in a memory of this bandwidth. A tensor that travels alone
    /// is sent from where it lies.
    Copy(
        /// Of the device memory.
        Bandwidth,
    ),
    /// As it was measured, whether a tensor travels alone or not.
    Measured(
        /// For packing and for unpacking.
        PackingProfile,
    ),
}

impl Packing {
    /// What packing a bucket takes, and unpacking it.
    #[must_use]
    pub fn times(&self, bytes: Bytes, tensors: usize) -> (SimDuration, SimDuration) {
        match self {
            Self::Copy(bandwidth) if tensors > 1 => {
                let time = bandwidth.transmission_time(bytes * 2);
                (time, time)
            }
            Self::Copy(_) => (SimDuration::ZERO, SimDuration::ZERO),
            Self::Measured(profile) => profile.times(bytes),
        }
    }
}

/// Batches that the device holds: the one being computed on and the next.
const DEVICE_BUFFERS: usize = 2;

/// How a bucket of so many bytes is reduced.
pub type Planner<'a> = dyn Fn(Bytes) -> Result<Plan, CollectiveError> + Sync + 'a;

/// Everything about a point that stays the same from step to step.
#[derive(Clone)]
pub struct StepSetup<'a> {
    /// How many ranks, and where.
    pub layout: Layout,
    /// What compute takes on an undisturbed rank.
    pub compute: &'a ComputeTimes,
    /// The gradients in the order in which they become ready.
    pub gradients: &'a [Gradient],
    /// How they are merged.
    pub fusion: Fusion,
    /// Whether buckets travel during the backward pass.
    pub overlap: bool,
    /// How a bucket of so many bytes is reduced.
    pub plan: &'a Planner<'a>,
    /// Whether array passes are folded, with the same result.
    pub folding: Folding,
    /// What carries the messages of all buckets together, where messages are flows.
    pub network: &'a Interconnect,
    /// What packing and unpacking take.
    pub packing: Packing,
    /// How batches come; none if they are always there.
    pub input: Option<InputPipeline>,
    /// How compute varies.
    pub jitter: &'a Jitter,
}

impl StepSetup<'_> {
    const fn ranks(&self) -> u32 {
        self.layout.ranks
    }

    /// What packing a bucket takes, and unpacking it.
    fn pack_times(&self, bytes: Bytes, tensors: usize) -> (SimDuration, SimDuration) {
        self.packing.times(bytes, tensors)
    }
}

/// What happened to one bucket in one step; times in picoseconds, one a rank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketTimes {
    /// Its size.
    pub bytes: Bytes,
    /// How many tensors it holds.
    pub tensors: usize,
    /// When the bucket could have started: its last gradient ready, at the tick in force.
    pub ready: Vec<u64>,
    /// When packing started.
    pub pack_start: Vec<u64>,
    /// When the rank entered the all-reduce.
    pub enter: Vec<u64>,
    /// When the rank was through with the all-reduce.
    pub finish: Vec<u64>,
    /// When unpacking ended.
    pub end: Vec<u64>,
}

/// When a batch was decoded and copied; times in picoseconds, one a rank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputTimes {
    /// When decoding started.
    pub decode_start: Vec<u64>,
    /// When decoding ended.
    pub decode_end: Vec<u64>,
    /// When the copy to the device started.
    pub copy_start: Vec<u64>,
    /// When the copy ended.
    pub copy_end: Vec<u64>,
}

/// What happened in one step; times in picoseconds since the start of the run, one a rank.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepTimes {
    /// When the step before ended.
    pub previous_end: Vec<u64>,
    /// The input, if it is modelled.
    pub input: Option<InputTimes>,
    /// The jitter factor of the rank's compute.
    pub factor: Vec<f64>,
    /// When forward began.
    pub forward_start: Vec<u64>,
    /// When forward ended and backward began.
    pub forward_end: Vec<u64>,
    /// When backward ended.
    pub backward_end: Vec<u64>,
    /// The buckets, in order.
    pub buckets: Vec<BucketTimes>,
    /// When the optimizer began.
    pub optimizer_start: Vec<u64>,
    /// When the step ended.
    pub end: Vec<u64>,
}

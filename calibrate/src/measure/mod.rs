//! The procedure: what is measured, in which order, how often.
//!
//! ```text
//!  Procedure ──▶ Subject ──▶ Measurements
//!  what, how      Ranks: this machine or cluster
//!  often          Synthetic: made up from known numbers, for tests
//! ```
//!
//! All ranks run the same procedure, each with a [`Subject`] of its own. Whatever a subject returns is
//! the same on all ranks, so that all decide alike.
//!
//! Messages and all-reduces are measured in rounds: each round takes every size of everything once, in
//! a random order, so that what changes with time is no matter of size. Rounds go on until every
//! interval is narrow, or the time is up.

pub mod collectives;
mod procedure;
mod processor;
mod progress;
pub mod ranks;
mod recorded;
mod steps;
pub mod synthetic;

pub use collectives::{Job, Sweep};
pub use procedure::{Parts, Procedure};
pub use progress::{NobodyLooks, Progress, Stage};
pub use recorded::{RecordedError, recorded_steps};
pub use steps::{StepSettings, StepVariant};

use std::time::Duration;

use foretrain_sim::profile::MachineEntry;
use foretrain_sim::recording::Recording;

use crate::measurements::{InputSeries, NetworkEntry, Observation};

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// What is to be trained is wrong.
    #[error("{0}")]
    Input(String),
    /// A rank is missing, or the machine failed.
    #[error("{0}")]
    Runtime(String),
    /// A sum is wrong: there is nothing to time.
    #[error(
        "{what}: the sum of element {element} is {found}, expected {expected}: the communicator is \
         wrong, and nothing that it does can be measured"
    )]
    WrongSum {
        /// Which all-reduce.
        what: String,
        /// The element.
        element: usize,
        /// What came.
        found: f32,
        /// What should have come.
        expected: f32,
    },
}

/// What some steps left behind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepRun {
    /// From step to step, in seconds, without those of the warm-up.
    pub periods_s: Vec<f64>,
    /// What rank 0 recorded, if it was to.
    pub recording: Option<Recording>,
    /// Forward, backward and update of each rank, step by step, in nanoseconds.
    pub rank_compute_ns: Vec<Vec<u64>>,
    /// The mean over ranks of ‖g‖² of their own gradients, and ‖g‖² of the averaged one, if they were
    /// recorded.
    pub norms: Vec<(f64, f64)>,
}

/// What is measured.
pub trait Subject {
    /// Whether all ranks are to do the same, and are where they are taken to be.
    ///
    /// # Errors
    /// They are not, or one is missing.
    fn agree(&mut self, what: &str) -> Result<(), MeasureError>;

    /// What it is.
    fn machine(&self) -> MachineEntry;

    /// What is trained.
    ///
    /// # Errors
    /// It cannot be.
    fn network(&mut self) -> Result<NetworkEntry, MeasureError>;

    /// Whether the ranks communicate by what [`Self::all_reduce`] measures.
    fn has_all_reduce(&self) -> bool;

    /// Sums once and checks the result.
    ///
    /// # Errors
    /// A rank is missing, or the sum is wrong.
    fn check_all_reduce(&mut self, job: &Job, bytes: u64) -> Result<(), MeasureError>;

    /// Seconds of one all-reduce on the slowest rank, the mean of `repeats` after each other.
    ///
    /// # Errors
    /// A rank is missing.
    fn all_reduce(&mut self, job: &Job, bytes: u64, repeats: u32) -> Result<f64, MeasureError>;

    /// Trains for some steps.
    ///
    /// # Errors
    /// A rank is missing, or the training is not possible.
    fn steps(&mut self, settings: &StepSettings) -> Result<StepRun, MeasureError>;

    /// What images take, so many times `images` of them.
    ///
    /// # Errors
    /// They cannot be read.
    fn input(&mut self, images: u32, repeats: u32) -> Result<InputSeries, MeasureError>;

    /// How long it has been since the beginning: the most of all ranks.
    ///
    /// # Errors
    /// A rank is missing.
    fn elapsed(&mut self) -> Result<Duration, MeasureError>;

    /// What was seen of the machine since the beginning.
    fn observations(&mut self) -> Vec<Observation>;
}

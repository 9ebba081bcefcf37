//! The life of a run: from a configuration to trained weights.
//!
//! [`Setup`] opens the data and fixes everything that all ranks share: network, plan, buckets,
//! schedule. [`run`] then trains, with ranks as threads of this process, or as the one rank of this
//! process among others: epochs, evaluations, checkpoints, logs, recordings. It goes on from the
//! latest checkpoint in the output folder, if there is one.
//!
//! Rank 0 tells a [`Watch`] how it goes, and alone writes checkpoints and logs.

mod begin;
mod data;
#[cfg(test)]
mod device_tests;
mod error;
mod evaluate;
mod input;
mod log;
#[cfg(test)]
mod paced_tests;
mod rank;
mod record;
mod replica;
mod saved;
mod setup;
#[cfg(test)]
mod tests;
mod world;

pub use error::TrainError;
pub use setup::Setup;
pub use world::{Place, all_reduce, run, run_rank};

use std::path::PathBuf;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Steps that are done, from the start of training.
    pub steps: u64,
    /// Steps of this process, which may have gone on from a checkpoint.
    pub steps_here: u64,
    /// Seconds of training in this process, evaluations and checkpoints included.
    pub seconds: f64,
    /// The last evaluation, if there was one.
    pub evaluation: Option<Evaluation>,
    /// Whether the target accuracy was reached, if there is one.
    pub reached_target: Option<bool>,
    /// The last checkpoint, if one was written.
    pub checkpoint: Option<PathBuf>,
    /// The SHA-256 of all weights as they are at the end, in hexadecimal.
    pub weights_sha256: String,
}

/// What an evaluation found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Epochs that had been done.
    pub epoch: f64,
    /// Images.
    pub images: u64,
    /// The mean loss, without label smoothing.
    pub loss: f64,
    /// The part of the images whose label is the first guess, 0 to 1.
    pub top1: f64,
    /// The part of the images whose label is among the first five guesses.
    pub top5: f64,
}

/// Something to tell of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum News<'a> {
    /// Training begins.
    Start {
        /// Steps done before.
        done: u64,
        /// Steps of the whole training.
        steps: u64,
        /// Steps of an epoch.
        steps_per_epoch: u64,
        /// The checkpoint it goes on from.
        checkpoint: Option<&'a PathBuf>,
        /// On what rank 0 computes, in words, if not on this machine's processor.
        device: Option<&'a str>,
    },
    /// A step is done.
    Step {
        /// Steps done.
        done: u64,
    },
    /// What the last steps did.
    Losses(Losses),
    /// An evaluation is done.
    Evaluation(Evaluation),
    /// A checkpoint is on the disk.
    Checkpoint(&'a PathBuf),
    /// An image was skipped.
    Skipped {
        /// Its name.
        name: &'a str,
        /// What is wrong with it.
        reason: &'a str,
    },
}

/// What the last steps did, over all ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// The mean loss of the images of these steps.
    pub loss: f64,
    /// The part of them whose label was the first guess.
    pub top1: f64,
    /// The learning rate of the last step.
    pub lr: f64,
    /// The loss scale of the last step.
    pub loss_scale: f64,
    /// Steps of these whose update was skipped for an overflow.
    pub skipped: u64,
    /// Images in a second, over all ranks.
    pub images_per_s: f64,
    /// The part of the time that rank 0 waited for input.
    pub input_wait: f64,
}

/// Who is told how a run goes.
pub trait Watch {
    /// Something happened.
    fn tell(&mut self, news: News<'_>);
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NobodyWatches;

impl Watch for NobodyWatches {
    fn tell(&mut self, _: News<'_>) {}
}

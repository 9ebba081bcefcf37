//! The critical batch of a user's own training: measured at one batch, and held against others.
//!
//! ```text
//!  Config ──▶ Study::new (checked) ──▶ measure: trained at its own batch, norms recorded
//!                                         │ sim: critical_batch
//!                                         ▼
//!              Answer ◀── try_out ◀── predict: epochs and learning rate of every other batch
//!                         really trained, if it is asked for
//! ```
//!
//! Predictions are complete before another batch is trained: they rest on the run at the
//! configuration's own batch alone. `docs/convergence.md` says what is computed, and how well it
//! does.

mod answer;
mod check;
mod predict;
mod runs;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Measured, Row, Run};
pub use predict::predicted;
pub use runs::{NobodyFollows, Progress, RunStart};

use std::path::PathBuf;

use foretrain_sim::convergence::noise_scale::{self, CriticalBatch, NoiseScaleError};
use foretrain_trainer::config::Config;
use foretrain_trainer::train::TrainError;

/// Fewer evaluations on the way to the target make epochs coarse.
const EVALUATIONS_MIN: usize = 5;
/// Where a batch is given up: times the epochs that are predicted.
const GIVEN_UP: f64 = 3.0;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What is trained, at which batch, to which accuracy.
    pub config: Config,
    /// The other batches.
    pub batches: Vec<u32>,
    /// Runs at each batch, with the configuration's seed and those after it.
    pub seeds: u32,
    /// A folder for what runs leave behind, which nobody needs afterwards.
    pub scratch: PathBuf,
    /// What computes, in words.
    pub device: String,
    /// Date and time, for recordings.
    pub started: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CriticalBatchError {
    /// The configuration, or a batch, does not fit the question.
    #[error("{0}")]
    Input(String),
    /// A run failed.
    #[error("{0}")]
    Train(#[from] TrainError),
    /// What was measured supports no prediction.
    #[error("{0}")]
    Refused(String),
    /// What a run recorded cannot be read.
    #[error("{0}")]
    Recording(String),
}

impl From<NoiseScaleError> for CriticalBatchError {
    fn from(error: NoiseScaleError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// A question that has been checked.
#[derive(Debug)]
pub struct Study {
    question: Question,
    /// The accuracy to reach, 0 to 1.
    target: f64,
    ranks: u32,
    /// The learning rate at the configuration's own batch.
    learning_rate: f64,
}

impl Study {
    /// Trains at the configuration's own batch, and predicts the others; nothing of them has been
    /// trained.
    ///
    /// # Errors
    /// A run fails or does not reach the target, or its norms say nothing.
    pub fn predict(&self, progress: &mut dyn Progress) -> Result<Answer, CriticalBatchError> {
        let question = &self.question;
        let batch = question.config.training.global_batch;
        let mut courses = Vec::new();
        for number in 0..question.seeds {
            let limit = question.config.training.epochs;
            let plan = self.plan(batch, self.learning_rate, number, limit, true);
            let course = runs::train(self, &plan, progress)?;
            if course.run.epochs.is_none() {
                return Err(CriticalBatchError::Refused(format!(
                    "at batch {batch} and seed {} top-1 was {:.2} % at most in {limit} epochs, and \
                     training.target_top1 is {:.2} %: train for more epochs, lower the target, or \
                     mend the learning rate",
                    plan.seed,
                    100.0 * course.run.best(),
                    100.0 * self.target
                )));
            }
            courses.push(course);
        }
        let images = noise_scale::Images {
            local: f64::from(batch / self.ranks),
            averaged: f64::from(batch),
        };
        let norms: Vec<_> = courses.iter_mut().map(|course| course.norms.split_off(0)).collect();
        let critical: CriticalBatch = noise_scale::critical_batch(images, &norms)?;
        Ok(self.answer(&courses, &norms, images, critical))
    }

    /// Trains the other batches of `answer` to the same accuracy, and says how far off it was.
    ///
    /// # Errors
    /// A run fails.
    pub fn try_out(
        &self,
        mut answer: Answer,
        progress: &mut dyn Progress,
    ) -> Result<Answer, CriticalBatchError> {
        for row in &mut answer.rows {
            let limit =
                self.question.config.training.epochs.max(GIVEN_UP * row.predicted_epochs.value);
            for number in 0..self.question.seeds {
                let plan = self.plan(row.batch, row.learning_rate, number, limit, false);
                let course = runs::train(self, &plan, progress)?;
                if course.run.epochs.is_none() {
                    answer.warnings.push(format!(
                        "batch {}, seed {}: {:.2} % at most in {limit:.1} epochs: given up",
                        row.batch,
                        plan.seed,
                        100.0 * course.run.best()
                    ));
                }
                row.runs.push(course.run);
            }
            row.judge();
        }
        Ok(answer)
    }

    fn plan(&self, batch: u32, learning_rate: f64, run: u32, epochs: f64, norms: bool) -> RunStart {
        let seed = self.question.config.seed.wrapping_add(u64::from(run));
        RunStart { batch, learning_rate, seed, epochs_max: epochs, norms }
    }
}

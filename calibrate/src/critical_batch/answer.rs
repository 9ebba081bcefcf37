//! What came out, in a form that is written as JSON.

use foretrain_sim::convergence::noise_scale::CriticalBatch;
use foretrain_sim::profile::Estimate;
use serde::{Deserialize, Serialize};

/// A run to the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Steps until it ended.
    pub steps: u64,
    /// Passes over the images after which the target was reached, between two evaluations by a
    /// straight line; none where it was not.
    pub epochs: Option<f64>,
    /// Epochs and top-1, 0 to 1, of every evaluation.
    pub evaluations: Vec<(f64, f64)>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Run {
    /// The best top-1 that was seen, 0 to 1.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.evaluations.iter().map(|(_, top1)| *top1).fold(0.0, f64::max)
    }
}

/// The configuration's own batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Images of a step, over all ranks.
    pub batch: u32,
    /// The ranks.
    pub ranks: u32,
    /// The learning rate.
    pub learning_rate: f64,
    /// Epochs to the target, the geometric mean over runs.
    pub epochs: f64,
    /// The standard deviation of ln epochs over runs; none of one run.
    pub spread: Option<f64>,
    /// The runs.
    pub runs: Vec<Run>,
}

/// Another batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Images of a step, over all ranks.
    pub batch: u32,
    /// The learning rate that the law gives it.
    pub learning_rate: f64,
    /// What the law says.
    pub predicted_epochs: Estimate,
    /// The geometric mean over the runs; none where nothing was trained or one did not arrive.
    pub actual_epochs: Option<f64>,
    /// Predicted over actual, less one.
    pub error_percent: Option<f64>,
    /// Whether the mean lies in the interval.
    pub inside: Option<bool>,
    /// The runs.
    pub runs: Vec<Run>,
}

impl Row {
    /// Compares with the runs.
    pub(super) fn judge(&mut self) {
        self.actual_epochs = mean_epochs(&self.runs);
        self.error_percent =
            self.actual_epochs.map(|actual| 100.0 * (self.predicted_epochs.value / actual - 1.0));
        self.inside = self.actual_epochs.map(|actual| self.predicted_epochs.contains(actual));
    }
}

/// What was measured, predicted and tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The name of the configuration.
    pub name: String,
    /// The accuracy that all are trained to.
    pub target_top1_percent: f64,
    /// Images to train on.
    pub images: u32,
    /// The critical batch, in images.
    pub critical_batch: CriticalBatch,
    /// The ratio of plain sums over all steps, which weighs the first steps most; for comparison.
    pub simple_noise_scale: f64,
    /// The batch that everything rests on.
    pub measured: Measured,
    /// The others, as they were asked for.
    pub rows: Vec<Row>,
    /// What to keep in mind.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The mean of the errors' sizes, in percent, where something was trained.
    #[must_use]
    pub fn mean_abs_error_percent(&self) -> Option<f64> {
        let errors: Vec<f64> =
            self.rows.iter().filter_map(|row| row.error_percent).map(f64::abs).collect();
        (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
    }
}

/// The geometric mean; none where a run did not reach the target.
pub(super) fn mean_epochs(runs: &[Run]) -> Option<f64> {
    let logs: Option<Vec<f64>> = runs.iter().map(|run| run.epochs.map(f64::ln)).collect();
    let logs = logs.filter(|logs| !logs.is_empty())?;
    Some((logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

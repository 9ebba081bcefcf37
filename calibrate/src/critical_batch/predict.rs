//! From what was measured at one batch to epochs and learning rates of others.

use foretrain_sim::convergence::noise_scale::{
    CriticalBatch, Images, SquaredNorms, epochs_ratio, learning_rate_ratio, student,
};
use foretrain_sim::profile::Estimate;

use super::answer::{Answer, Measured, Row, Run, mean_epochs};
use super::runs::Course;
use super::{EVALUATIONS_MIN, Study};
use crate::fit::estimate::moments;

/// Smaller critical batches are those of no gradient.
const CRITICAL_MIN: f64 = 1e-6;

impl Study {
    /// What the law says of all batches.
    pub(super) fn answer(
        &self,
        courses: &[Course],
        norms: &[Vec<SquaredNorms>],
        images: Images,
        critical_batch: CriticalBatch,
    ) -> Answer {
        let question = &self.question;
        let runs: Vec<Run> = courses.iter().map(|course| course.run.clone()).collect();
        let logs: Vec<f64> = runs.iter().filter_map(|run| run.epochs.map(f64::ln)).collect();
        let measured = Measured {
            batch: question.config.training.global_batch,
            ranks: self.ranks,
            learning_rate: self.learning_rate,
            epochs: mean_epochs(&runs).unwrap_or(f64::NAN),
            spread: (logs.len() > 1).then(|| moments(&logs).1),
            runs,
        };
        let row = |&batch: &u32| {
            let (other, own) = (f64::from(batch), f64::from(measured.batch));
            let factor = learning_rate_ratio(other, own, critical_batch.value);
            Row {
                batch,
                learning_rate: measured.learning_rate * factor,
                predicted_epochs: predicted(&measured, &critical_batch, other),
                actual_epochs: None,
                error_percent: None,
                inside: None,
                runs: Vec::new(),
            }
        };
        let all = SquaredNorms::mean(norms.iter().flatten().copied());
        Answer {
            name: question.config.name.clone(),
            target_top1_percent: 100.0 * self.target,
            images: courses.first().map_or(0, |course| course.images),
            simple_noise_scale: all.gradient(images).noise_scale(),
            rows: question.batches.iter().map(row).collect(),
            warnings: warnings(&measured, &critical_batch),
            critical_batch,
            measured,
        }
    }
}

/// Epochs of `batch` by the law, with an interval in which the mean of as many runs lies as were
/// measured, if the law holds: by the interval of the critical batch, and by the spread of runs,
///
/// ```text
/// |ln E − ln E(B)| ≤ √( (ln of E at the ends of Bc)² + (t s √(2/n))² )
/// ```
///
/// with n runs here and n there, s the standard deviation of ln E(B0) over runs, t Student's quantile
/// of n − 1 degrees of freedom.
pub fn predicted(measured: &Measured, critical: &CriticalBatch, batch: f64) -> Estimate {
    let own = f64::from(measured.batch);
    // An interval that nothing bounds ends at 0.
    let epochs =
        |critical: f64| measured.epochs * epochs_ratio(batch, own, critical.max(CRITICAL_MIN));
    let value = epochs(critical.value);
    let ends = [critical.low, critical.high].map(|end| (epochs(end) / value).ln());
    let runs = measured.runs.len() as f64;
    let spread =
        measured.spread.map_or(0.0, |spread| student(runs - 1.0) * spread * (2.0 / runs).sqrt());
    let [down, up] =
        [ends[0].min(ends[1]).min(0.0), ends[0].max(ends[1]).max(0.0)].map(|end| end.hypot(spread));
    Estimate { value, low: value * (-down).exp(), high: value * up.exp() }
}

fn warnings(measured: &Measured, critical: &CriticalBatch) -> Vec<String> {
    let mut warnings = Vec::new();
    if measured.runs.len() == 1 {
        warnings.push(
            "one run at each batch: how runs scatter is not in the intervals; take more seeds"
                .to_owned(),
        );
    }
    let fewest = measured.runs.iter().map(|run| run.evaluations.len()).min().unwrap_or(0);
    if fewest < EVALUATIONS_MIN {
        warnings.push(format!(
            "the target was reached at evaluation {fewest}: with fewer than {EVALUATIONS_MIN} on the \
             way, epochs are coarse; lower training.evaluate_every"
        ));
    }
    if critical.high > 4.0 * critical.low {
        warnings.push(format!(
            "the critical batch is known within {:.0} to {:.0} only: take more seeds, or a batch \
             nearer to it",
            critical.low, critical.high
        ));
    }
    warnings
}

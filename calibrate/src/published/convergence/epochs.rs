//! Epochs to target: E0 · (1 + B/Bc) · (d/d0)^β + w/2, fitted in logarithms.
//!
//! The bare law has E0 and Bc. The law with covariates adds weight decay and warm-up, of which only
//! β is a parameter, and reads, beside the reference points, how long LARS runs of the submitters'
//! logs took to the same target: a few reference points alone do not tell decay and batch apart,
//! and one of them decides Bc. Runs of
//! before round 0.7 are left out (their recipes were not yet tuned to the fewest epochs: 60 at batch
//! 1,664, where round 0.7 has 35). Runs of one batch, decay and
//! warm-up count once; that the log of a
//! submission is not the mean of reference runs is an offset of its own, shared by all logs.
//!
//! Rows by Student's distribution, so that one odd row does not decide.

use std::collections::BTreeMap;

use super::error::FitError;
use super::least_squares::{Prior, Solution, fit, robust};
use super::report::{Case, NotPredicted, Report};
use super::rows::{EpochsRow, Run};
use foretrain_sim::convergence::epochs::{
    EpochsLaw, EpochsRecipe, PARAMETERS, UsualWarmUp, epochs,
};
use foretrain_sim::convergence::{Posterior, Range};

/// From this round on, recipes were tuned to the fewest epochs.
const FIRST_TUNED_ROUND: f64 = 0.7;

/// How well the tuning of different teams agrees, as a standard deviation of ln E: runs of 3,264 to
/// 4,096 images take 35 to 43 epochs, of 33,000 to 35,000 images 56 to 60.
const TUNING: f64 = 0.04;

/// E0, Bc, β and the offset of submitted logs (in ln E).
///
/// E0: the first MLPerf round planned 72 epochs, half of it is as plausible. Bc: between the 10⁴
/// and 10⁵ images where Goyal et al. and You et al. saw ResNet-50 slow down. β, offset: none,
/// unless rows say so.
const PRIORS: [Prior; 4] = [
    Prior::positive(45.0, 0.5),
    Prior::positive(40_000.0, 1.0),
    Prior::linear(0.0, 0.1),
    Prior::linear(0.0, 0.05),
];

/// The deviation of a parameter that is not fitted.
const FIXED: f64 = 1e-9;

/// What is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// E0 and Bc, to the reference points alone.
    Bare,
    /// With weight decay and warm-up, and with submitted runs beside the reference points.
    Covariates,
}

/// How long submitted runs of one batch and recipe took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct End {
    /// The global batch.
    pub batch: f64,
    /// What else decides.
    pub recipe: EpochsRecipe,
    /// The mean of the epochs after which they stopped.
    pub epochs: f64,
}

/// The ends of tuned LARS runs.
#[must_use]
pub fn ends(runs: &[Run]) -> Vec<End> {
    let mut alike: BTreeMap<[u64; 3], Vec<f64>> = BTreeMap::new();
    for run in runs {
        let last = run.evaluations.last().and_then(|evaluation| evaluation.epoch);
        if let (Some(last), Some(decay), Some(warm_up)) =
            (last, run.weight_decay, run.warm_up_epochs)
            && run.optimizer == "lars"
            && run.round >= FIRST_TUNED_ROUND
            && decay > 0.0
        {
            // Positive numbers sort as their bits do.
            alike.entry([run.batch, decay, warm_up].map(f64::to_bits)).or_default().push(last);
        }
    }
    let mean = |epochs: &[f64]| epochs.iter().sum::<f64>() / epochs.len() as f64;
    let end = |(key, epochs): (&[u64; 3], &Vec<f64>)| {
        let [batch, weight_decay, warm_up_epochs] = key.map(f64::from_bits);
        let recipe = EpochsRecipe { warm_up_epochs, weight_decay };
        End { batch, recipe, epochs: mean(epochs) }
    };
    alike.iter().map(end).collect()
}

impl EpochsRow {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{} at {}", self.creator, self.batch)
    }

    fn recipe(&self) -> EpochsRecipe {
        let &Self { warm_up_epochs, weight_decay, .. } = self;
        EpochsRecipe { warm_up_epochs, weight_decay }
    }
}

/// The recipe as `model` sees it.
fn seen(recipe: EpochsRecipe, model: Model) -> EpochsRecipe {
    match model {
        Model::Bare => EpochsRecipe { warm_up_epochs: 0.0, ..recipe },
        Model::Covariates => recipe,
    }
}

fn solve(rows: &[&EpochsRow], ends: &[&End], model: Model) -> Result<Solution, FitError> {
    let mut priors = PRIORS;
    if model == Model::Bare {
        priors[2].deviation = FIXED;
        priors[3].deviation = FIXED;
    }
    fit("epochs to target", &priors, None, |p, residuals| {
        let miss = |found: f64, offset: f64, batch: f64, recipe: EpochsRecipe| {
            let expected = epochs(p, batch, &seen(recipe, model));
            robust(((expected / found).ln() + offset) / TUNING)
        };
        residuals.extend(rows.iter().map(|row| miss(row.epochs, 0.0, row.batch, row.recipe())));
        if model == Model::Covariates {
            let end = |end: &&End| miss(end.epochs, p[3], end.batch, end.recipe);
            residuals.extend(ends.iter().map(end));
        }
    })
}

/// The least-squares line of warm-up against batch, not falling.
fn usual_warm_up(rows: &[&EpochsRow]) -> UsualWarmUp {
    let count = rows.len() as f64;
    let mean = |of: fn(&EpochsRow) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / count;
    let (batch, warm_up) = (mean(|row| row.batch), mean(|row| row.warm_up_epochs));
    let (mut both, mut square) = (0.0, 0.0);
    for row in rows {
        both += (row.batch - batch) * (row.warm_up_epochs - warm_up);
        square += (row.batch - batch).powi(2);
    }
    let slope = if square > 0.0 { (both / square).max(0.0) } else { 0.0 };
    let slope = slope.min(warm_up / batch);
    UsualWarmUp { epochs: warm_up - slope * batch, epochs_per_image: slope }
}

fn law(rows: &[&EpochsRow], ends: &[&End], model: Model) -> Result<EpochsLaw, FitError> {
    let what = "epochs to target";
    let target = rows.first().map(|row| row.target_top1).ok_or(FitError::NoRows { what })?;
    let found = solve(rows, ends, model)?;
    Ok(EpochsLaw {
        posterior: Posterior::new(PARAMETERS, &found.fitted, &found.covariance),
        residual: TUNING,
        target_top1_percent: 100.0 * target,
        usual_warm_up: match model {
            Model::Bare => UsualWarmUp { epochs: 0.0, epochs_per_image: 0.0 },
            Model::Covariates => usual_warm_up(rows),
        },
        batches: Range::of(rows.iter().map(|row| row.batch)),
        source: "MLPerf Training reference convergence points and submitted LARS runs, ResNet-50"
            .to_owned(),
    })
}

/// Fits the law to the points of the first row's target.
pub fn fit_epochs(rows: &[EpochsRow], ends: &[End], model: Model) -> Result<EpochsLaw, FitError> {
    let target = rows.first().map(|row| row.target_top1);
    let same: Vec<&EpochsRow> = rows.iter().filter(|row| Some(row.target_top1) == target).collect();
    law(&same, &ends.iter().collect::<Vec<_>>(), model)
}

/// What is left out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveOut {
    /// The point alone.
    Point,
    /// The point, and submitted runs within a tenth of its batch, which say nearly the same.
    Batch,
}

/// Batches this close are nearly the same.
const SAME_BATCH: f64 = 0.1;

fn case(row: &EpochsRow, law: &EpochsLaw, model: Model) -> Case {
    let forecast = law.epochs_with(row.batch, &seen(row.recipe(), model));
    Case {
        id: row.id(),
        line: row.line,
        quantity: "epochs to target",
        groups: Vec::new(),
        published: row.epochs,
        predicted: forecast.value,
        low: forecast.low,
        high: forecast.high,
        error: 100.0 * (forecast.value / row.epochs - 1.0),
    }
}

/// Foretells `unseen` points by `law`.
#[must_use]
pub fn foretell(law: &EpochsLaw, unseen: &[EpochsRow]) -> Report {
    let (mut cases, mut not_predicted) = (Vec::new(), Vec::new());
    for row in unseen {
        if (100.0 * row.target_top1 - law.target_top1_percent).abs() < 1e-9 {
            cases.push(case(row, law, Model::Covariates));
        } else {
            let reason = "another target than that of the law";
            not_predicted.push(NotPredicted { id: row.id(), line: row.line, reason });
        }
    }
    Report::new("nothing: rows that were not fitted", cases, not_predicted)
}

/// Foretells each reference point from those that were left in.
pub fn leave_out(
    rows: &[EpochsRow],
    ends: &[End],
    model: Model,
    what: LeaveOut,
) -> Result<Report, FitError> {
    let (mut cases, mut not_predicted) = (Vec::new(), Vec::new());
    for left_out in rows {
        let line = left_out.line;
        let like = |row: &&EpochsRow| row.line != line && row.target_top1 == left_out.target_top1;
        let others: Vec<&EpochsRow> = rows.iter().filter(like).collect();
        let near = |end: &End| (end.batch / left_out.batch - 1.0).abs() <= SAME_BATCH;
        let ends: Vec<&End> =
            ends.iter().filter(|end| what == LeaveOut::Point || !near(end)).collect();
        if others.is_empty() {
            let reason = "no other point has its target";
            not_predicted.push(NotPredicted { id: left_out.id(), line, reason });
            continue;
        }
        cases.push(case(left_out, &law(&others, &ends, model)?, model));
    }
    let left_out = match what {
        LeaveOut::Point => "the point",
        LeaveOut::Batch => "the point, and submitted runs of nearly its batch",
    };
    Ok(Report::new(left_out, cases, not_predicted))
}

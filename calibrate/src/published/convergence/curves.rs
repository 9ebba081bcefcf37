//! The learning curve, fitted to the evaluations inside MLPerf runs.
//!
//! A run stops at the first evaluation above its target: the last value is chosen because it is
//! high, and enters only as "at least the target" (a censored value). Evaluations that missed the
//! target are values like any other. The noise of an evaluation grows with the distance from the
//! end, where the learning rate is high.
//!
//! The schedule of a LARS run is its warm-up and a polynomial of power 2: below 100, the log's
//! `decay_steps` are the epochs of the whole run, above steps after the warm-up. Momentum in round
//! 0.5 had to follow the reference's steps at 30, 60 and 80 epochs; later logs of momentum do not
//! say their schedule, which is fitted (one length, one power).

use std::collections::BTreeSet;

use super::error::FitError;
use super::least_squares::{Prior, Solution, censored, fit, robust};
use super::report::{Case, NotPredicted, Report};
use super::rows::{Evaluation, Run};
use foretrain_sim::convergence::curve::{
    CurveLaw, PARAMETERS, final_top1, noise, top1, unpublished_schedule,
};
use foretrain_sim::convergence::posterior::NORMAL_95;
use foretrain_sim::convergence::{Course, NoiseScale, Optimizer, Posterior, Range, Schedule};

/// Images of ImageNet's training set.
const IMAGES: f64 = 1_281_167.0;

/// Round 0.5 stopped at 74.9 %, later ones at 75.9 %.
const FIRST_TARGET: f64 = 74.9;
const TARGET: f64 = 75.9;

/// `decay_steps` below this are epochs.
const MOST_EPOCHS: f64 = 100.0;

/// The warm-up of Goyal et al., taken where the log does not say.
const USUAL_WARM_UP: f64 = 5.0;

/// The power that MLPerf's rules give LARS.
const USUAL_POWER: f64 = 2.0;

/// In the order of the law's parameters.
///
/// Ceiling, a and γ: as of `accuracy`, whose rows 50 to 250 epochs apart set them. Bc: epochs to
/// target. Losses at the peak rate: an evaluation at full rate finds 30 to 50 %. κ: 1, see the law.
/// z1, B1: within a factor of e of an epoch and of 10⁴ images. Level of steps: without label
/// smoothing a point or two lower. Unpublished schedules: as long as those of LARS, falling to zero
/// between linearly and by the square.
const PRIORS: [Prior; 14] = [
    Prior::linear(82.0, 1.5),
    Prior::positive(5.0, 0.2),
    Prior::positive(0.29, 0.3),
    Prior::positive(46_000.0, 0.3),
    Prior::positive(40.0, 0.5),
    Prior::positive(1.0, 0.3),
    Prior::positive(1.0, 1.0),
    Prior::positive(10_000.0, 1.0),
    Prior::linear(-1.5, 1.0),
    Prior::positive(25.0, 0.5),
    Prior::positive(0.7, 0.4),
    Prior::linear(0.0, 0.3),
    Prior::positive(42.0, 0.05),
    Prior::positive(1.4, 0.3),
];

/// How the learning rate of a run goes, as far as its log says.
#[derive(Debug, Clone, PartialEq)]
enum Plan {
    Published(Schedule),
    Unpublished { warm_up_epochs: f64 },
}

/// Runs with a loss at the peak rate, or a level, of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lars,
    Steps,
    OtherMomentum,
}

impl Kind {
    fn group(self) -> &'static str {
        match self {
            Self::Lars => "last third: LARS",
            Self::Steps => "last third: momentum by steps",
            Self::OtherMomentum => "last third: momentum, schedule unpublished",
        }
    }
}

/// A run that the law can describe.
struct Fitted<'a> {
    run: &'a Run,
    optimizer: Optimizer,
    plan: Plan,
    target: f64,
    /// Evaluations that count, with their epochs.
    points: Vec<(f64, &'a Evaluation)>,
}

impl<'a> Fitted<'a> {
    fn new(run: &'a Run) -> Result<Self, &'static str> {
        let warm_up_epochs = run.warm_up_epochs.unwrap_or(USUAL_WARM_UP);
        let first_round = run.round < 0.55;
        let (optimizer, plan) = match run.optimizer.as_str() {
            "lars" => {
                let decay =
                    run.decay_steps.ok_or("the log does not say how long the rate falls")?;
                let epochs = if decay < MOST_EPOCHS {
                    decay
                } else {
                    warm_up_epochs + decay * run.batch / IMAGES
                };
                let power = run.poly_power.unwrap_or(USUAL_POWER);
                let schedule = Schedule::Polynomial { warm_up_epochs, epochs, power };
                (Optimizer::Lars, Plan::Published(schedule))
            }
            "sgd-momentum" if first_round => {
                (Optimizer::Momentum, Plan::Published(Schedule::Steps { warm_up_epochs }))
            }
            "sgd-momentum" => (Optimizer::Momentum, Plan::Unpublished { warm_up_epochs }),
            _ => return Err("an optimizer without a law: of second order, or unknown"),
        };
        let mut points: Vec<_> = run
            .evaluations
            .iter()
            .filter(|evaluation| !evaluation.repeated)
            .filter_map(|evaluation| Some((evaluation.epoch?, evaluation)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if points.is_empty() {
            return Err("no evaluation names its epoch");
        }
        let target = if first_round { FIRST_TARGET } else { TARGET };
        Ok(Self { run, optimizer, plan, target, points })
    }

    fn course(&self, parameters: &[f64]) -> Course {
        let schedule = match &self.plan {
            Plan::Published(schedule) => schedule.clone(),
            Plan::Unpublished { warm_up_epochs } => {
                unpublished_schedule(parameters, self.run.batch, *warm_up_epochs)
            }
        };
        Course { optimizer: self.optimizer, schedule, batch: self.run.batch }
    }

    fn last_epoch(&self) -> f64 {
        self.points.last().map_or(0.0, |point| point.0)
    }

    /// The standard deviation of an evaluation that found `top1_percent`, before any fit: the end is
    /// about the target.
    fn noise(&self, top1_percent: f64) -> f64 {
        noise(self.target - top1_percent)
    }

    fn residuals(&self, parameters: &[f64], residuals: &mut Vec<f64>) {
        let course = self.course(parameters);
        for (index, &(epoch, evaluation)) in self.points.iter().enumerate() {
            let expected = top1(parameters, &course, epoch);
            let found = evaluation.top1_percent;
            let deviation = self.noise(found);
            let last = index + 1 == self.points.len() && found >= self.target;
            residuals.push(if last {
                censored((expected - self.target) / deviation)
            } else {
                robust((expected - found) / deviation)
            });
        }
    }

    /// What a run shares with others that were set up in the same way.
    fn set_up(&self) -> String {
        let run = self.run;
        let Run { round, batch, base_lr, weight_decay, .. } = run;
        format!("{round} {batch} {base_lr:?} {weight_decay:?} {:?} {:?}", self.optimizer, self.plan)
    }

    fn cases(&self, law: &CurveLaw) -> Vec<Case> {
        let course = self.course(&law.posterior.values());
        let case = |&(epoch, evaluation): &(f64, &Evaluation)| {
            let found = evaluation.top1_percent;
            let groups = groups(self, epoch, found >= self.target);
            let forecast = law.top1(&course, epoch);
            Case::points(&self.run.id, evaluation.line, groups, found, &forecast)
        };
        self.points.iter().map(case).collect()
    }

    fn kind(&self) -> Kind {
        match (self.optimizer, &self.plan) {
            (Optimizer::Momentum, Plan::Published(_)) => Kind::Steps,
            (Optimizer::Momentum, Plan::Unpublished { .. }) => Kind::OtherMomentum,
            _ => Kind::Lars,
        }
    }
}

fn solve(runs: &[&Fitted<'_>], start: Option<&[f64]>) -> Result<Solution, FitError> {
    fit("learning curves", &PRIORS, start, |p, residuals| {
        for run in runs {
            run.residuals(p, residuals);
        }
    })
}

/// By how many times its noise evaluations of `kind` miss the law: so that 95 % of them lie in the
/// intervals of the fit.
fn noise_scale(runs: &[&Fitted<'_>], found: &Solution, kind: Kind) -> f64 {
    let mut misses: Vec<f64> = Vec::new();
    for run in runs.iter().filter(|run| run.kind() == kind) {
        let course = run.course(&found.values);
        let end = final_top1(&found.values, &course);
        misses.extend(run.points.iter().map(|&(epoch, evaluation)| {
            let expected = top1(&found.values, &course, epoch);
            (expected - evaluation.top1_percent).abs() / noise(end - expected)
        }));
    }
    misses.sort_by(f64::total_cmp);
    let quantile = (0.95 * misses.len() as f64).floor() as usize;
    // Without a run of the kind, the noise that the fit assumes.
    misses.get(quantile).map_or(1.0, |miss| miss / NORMAL_95)
}

fn law(runs: &[&Fitted<'_>], found: &Solution) -> CurveLaw {
    let scale = |kind| noise_scale(runs, found, kind);
    CurveLaw {
        posterior: Posterior::new(PARAMETERS, &found.fitted, &found.covariance),
        noise_scale: NoiseScale {
            lars: scale(Kind::Lars),
            steps: scale(Kind::Steps),
            momentum: scale(Kind::OtherMomentum),
        },
        batches: Range::of(runs.iter().map(|run| run.run.batch)),
        epochs: Range::of(runs.iter().map(|run| run.course(&found.values).schedule.epochs())),
        source: "evaluations inside MLPerf Training runs, rounds 0.5 to 1.0, ResNet-50".to_owned(),
    }
}

fn describable(runs: &[Run]) -> Vec<Fitted<'_>> {
    runs.iter().filter_map(|run| Fitted::new(run).ok()).collect()
}

/// Fits the law.
pub fn fit_curves(runs: &[Run]) -> Result<CurveLaw, FitError> {
    let runs = describable(runs);
    let runs: Vec<&Fitted<'_>> = runs.iter().collect();
    if runs.is_empty() {
        return Err(FitError::NoRows { what: "learning curves" });
    }
    Ok(law(&runs, &solve(&runs, None)?))
}

/// What is left out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveOut {
    /// The run alone.
    Run,
    /// All runs that were set up alike: round, batch, optimizer, rates and schedule.
    SetUp,
}

/// Foretells each evaluation from runs that were left out of the fit.
pub fn leave_out(runs: &[Run], what: LeaveOut) -> Result<Report, FitError> {
    let all = describable(runs);
    let everything: Vec<&Fitted<'_>> = all.iter().collect();
    let whole = solve(&everything, None)?;
    let key = |run: &Fitted<'_>| match what {
        LeaveOut::Run => run.run.id.clone(),
        LeaveOut::SetUp => run.set_up(),
    };
    let mut cases = Vec::new();
    for left_out in all.iter().map(key).collect::<BTreeSet<_>>() {
        let (out, others): (Vec<_>, Vec<_>) = all.iter().partition(|run| key(run) == left_out);
        let law = law(&others, &solve(&others, Some(&whole.distances))?);
        cases.extend(out.into_iter().flat_map(|run| run.cases(&law)));
    }
    let left_out = match what {
        LeaveOut::Run => "the run",
        LeaveOut::SetUp => "all runs set up alike",
    };
    cases.sort_by_key(|case| case.line);
    Ok(Report::new(left_out, cases, not_predicted(runs)))
}

/// Foretells each evaluation of `unseen` runs by `law`.
#[must_use]
pub fn foretell(law: &CurveLaw, unseen: &[Run]) -> Report {
    let runs = describable(unseen);
    let mut cases: Vec<Case> = runs.iter().flat_map(|run| run.cases(law)).collect();
    cases.sort_by_key(|case| case.line);
    Report::new("nothing: runs that were not fitted", cases, not_predicted(unseen))
}

/// Evaluations that no law describes, or that do not count.
fn not_predicted(runs: &[Run]) -> Vec<NotPredicted> {
    let mut found = Vec::new();
    for run in runs {
        let whole_run = Fitted::new(run).err();
        found.extend(run.evaluations.iter().filter_map(|evaluation| {
            let reason = match (whole_run, evaluation.epoch) {
                (Some(reason), _) => reason,
                (None, None) => "the log does not say after which epoch",
                (None, Some(_)) if evaluation.repeated => "the log repeats an evaluation",
                (None, Some(_)) => return None,
            };
            Some(NotPredicted { id: run.id.clone(), line: evaluation.line, reason })
        }));
    }
    found.sort_by_key(|row| row.line);
    found
}

fn groups(run: &Fitted<'_>, epoch: f64, last: bool) -> Vec<&'static str> {
    let part = epoch / run.last_epoch();
    if part <= 1.0 / 3.0 {
        return vec!["first third"];
    }
    if part <= 2.0 / 3.0 {
        return vec!["second third"];
    }
    let censored = if last { "last third: ends" } else { "last third: before the end" };
    vec!["last third", run.kind().group(), censored]
}

//! Top-1 at the end of training, fitted to published runs.
//!
//! ```text
//! published = law(recipe, B, E) + δ(source) + ε(source, optimizer) + noise
//! ```
//!
//! δ ~ N(0, τ²) is what a source's augmentation and schedule are worth, ε ~ N(0, τ₂²) what it
//! changed with the optimizer. All are fitted together; rows of a source thus tell each other's
//! level, and a source with a single row hardly moves the law. τ is found by the steps of
//! expectation and maximisation (Dempster, Laird and Rubin, 1977): τ² is the mean of δ² plus its
//! variance. Noise has Student's distribution.

use super::accuracy_rows::{Known, known};
use super::error::FitError;
use super::least_squares::{Prior, Solution, fit, robust};
use super::report::{Case, NotPredicted, Report};
use super::rows::AccuracyRow;
use foretrain_sim::convergence::accuracy::{PARAMETERS, top1};
use foretrain_sim::convergence::{
    AccuracyLaw, Forecast, Model, Optimizer, Posterior, Range, Scale,
};

/// In the order of the law's parameters.
///
/// Ceiling: ResNet-50 at 224 pixels reaches 80.4 % after 600 epochs of the best recipe (Wightman,
/// Touvron and Jégou, "ResNet strikes back", arXiv 2110.00476). AlexNet about 57 to 60 %, and its
/// ceiling is the loss of 90 epochs higher. γ: 0.07 to 0.35 for errors against data (Hestness et
/// al., arXiv 1712.00409). Bc: epochs to target, see [`super::epochs`]. Linear scaling: it holds to 8,192
/// images and fails soon after (Goyal et al., figure 1), so that its loss grows faster than the
/// batch: by the square, within half of it. Half precision: none
/// (Micikevicius et al., "Mixed precision training", arXiv 1710.03740). The last three: somewhere
/// about a point or two.
const PRIORS: [Prior; 12] = [
    Prior::linear(81.0, 1.5),
    Prior::linear(63.0, 3.0),
    Prior::linear(63.0, 3.0),
    Prior::positive(5.0, 0.5),
    Prior::positive(0.3, 0.5),
    Prior::positive(46_000.0, 0.3),
    Prior::positive(3.0, 1.0),
    Prior::positive(2.0, 0.4),
    Prior::linear(0.0, 0.2),
    Prior::positive(1.0, 1.0),
    Prior::positive(2.0, 1.0),
    Prior::positive(2.0, 1.0),
];

/// By how much a run misses law and level: seeds of one recipe differ by 0.07 to 0.12 points (Goyal
/// et al., NVIDIA), the law by as much again.
const NOISE: f64 = 0.2;

/// τ₂: as far apart as a source's changes from one paper to the next.
const RECIPE_SPREAD: f64 = 0.4;

/// τ before any row is read.
const FIRST_LEVEL_SPREAD: f64 = 0.8;

const SPREAD_STEPS: usize = 8;

type Group<'a> = (Model, &'a str);

/// The fitted law, and the levels of the sources.
#[derive(Debug, Clone, PartialEq)]
pub struct AccuracyFit<'a> {
    /// The law.
    pub law: AccuracyLaw,
    groups: Vec<Group<'a>>,
    recipes: Vec<(Group<'a>, Optimizer)>,
    joint: Posterior,
}

/// The places of a row's δ and ε among the parameters, where there are any.
fn levels(
    run: &Known<'_>,
    groups: &[Group<'_>],
    recipes: &[(Group<'_>, Optimizer)],
) -> (Option<usize>, Option<usize>) {
    let first = PRIORS.len();
    let group = groups.iter().position(|group| *group == run.group);
    let recipe = (run.group, run.training.recipe.optimizer);
    let recipe = recipes.iter().position(|other| *other == recipe);
    (group.map(|at| first + at), recipe.map(|at| first + groups.len() + at))
}

fn with_levels(
    parameters: &[f64],
    run: &Known<'_>,
    (group, recipe): (Option<usize>, Option<usize>),
) -> f64 {
    let level = |at: Option<usize>| at.and_then(|at| parameters.get(at)).copied().unwrap_or(0.0);
    top1(parameters, &run.training) + level(group) + level(recipe)
}

fn law<'a>(runs: &[&Known<'a>]) -> Result<AccuracyFit<'a>, FitError> {
    let mut groups: Vec<Group<'a>> = runs.iter().map(|run| run.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut recipes: Vec<_> =
        runs.iter().map(|run| (run.group, run.training.recipe.optimizer)).collect();
    recipes.sort_unstable();
    recipes.dedup();
    let places: Vec<_> = runs.iter().map(|run| levels(run, &groups, &recipes)).collect();
    let solve = |level_spread: f64, start: Option<&[f64]>| {
        let mut priors = PRIORS.to_vec();
        priors.resize(priors.len() + groups.len(), Prior::linear(0.0, level_spread));
        priors.resize(priors.len() + recipes.len(), Prior::linear(0.0, RECIPE_SPREAD));
        fit("top-1 at the end", &priors, start, |p, residuals| {
            residuals.extend(runs.iter().zip(&places).map(|(run, &places)| {
                robust((with_levels(p, run, places) - run.row.top1_percent) / NOISE)
            }));
        })
    };
    let mut level_spread = FIRST_LEVEL_SPREAD;
    let mut found: Solution = solve(level_spread, None)?;
    for _ in 0..SPREAD_STEPS {
        let places = PRIORS.len()..PRIORS.len() + groups.len();
        let square = |at: usize| found.values[at].powi(2) + found.covariance[at][at];
        level_spread = (places.map(square).sum::<f64>() / groups.len() as f64).sqrt();
        found = solve(level_spread, Some(&found.distances))?;
    }
    let momentum = runs.iter().filter(|run| run.training.recipe.optimizer.scales_linearly());
    let law = AccuracyLaw {
        posterior: Posterior::new(PARAMETERS, &found.fitted, &found.covariance),
        level_spread,
        recipe_spread: RECIPE_SPREAD,
        residual: NOISE,
        batches: Range::of(runs.iter().map(|run| run.training.batch)),
        momentum_batches: Range::of(momentum.map(|run| run.training.batch)),
        epochs: Range::of(runs.iter().map(|run| run.training.epochs)),
        source: "published runs of ResNet-50 and AlexNet on ImageNet at 224 pixels".to_owned(),
    };
    let mut names = PARAMETERS.to_vec();
    names.resize(found.values.len(), ("level, points", Scale::Linear));
    let joint = Posterior::new(&names, &found.fitted, &found.covariance);
    Ok(AccuracyFit { law, groups, recipes, joint })
}

impl AccuracyFit<'_> {
    /// The row's top-1, at the level of its source where that was fitted.
    fn forecast(&self, run: &Known<'_>) -> Forecast {
        let places = levels(run, &self.groups, &self.recipes);
        let value = with_levels(&self.joint.values(), run, places);
        let fitted = self.joint.deviation(|p| with_levels(p, run, places));
        let unseen = |place: Option<usize>, spread: f64| if place.is_some() { 0.0 } else { spread };
        let deviation = fitted
            .hypot(NOISE)
            .hypot(unseen(places.0, self.law.level_spread))
            .hypot(unseen(places.1, self.law.recipe_spread));
        Forecast::percent(value, deviation, Vec::new())
    }
}

/// Fits the law to all rows that say enough.
pub fn fit_accuracy(rows: &[AccuracyRow]) -> Result<AccuracyFit<'_>, FitError> {
    let runs: Vec<Known<'_>> = rows.iter().filter_map(|row| known(row, rows).ok()).collect();
    if runs.is_empty() {
        return Err(FitError::NoRows { what: "top-1 at the end" });
    }
    law(&runs.iter().collect::<Vec<_>>())
}

/// What is left out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveOut {
    /// The row alone.
    Row,
    /// All rows of its source or of its anchor, but for the anchor, against which it is foretold.
    Group,
}

/// Foretells each row from those that were left in.
pub fn leave_out(rows: &[AccuracyRow], what: LeaveOut) -> Result<Report, FitError> {
    let (mut cases, mut not_predicted) = (Vec::new(), Vec::new());
    let mut runs = Vec::new();
    for row in rows {
        match known(row, rows) {
            Ok(run) => runs.push(run),
            Err(reason) => {
                not_predicted.push(NotPredicted { id: row.id.clone(), line: row.line, reason });
            }
        }
    }
    for run in &runs {
        let stays = |other: &&Known<'_>| match what {
            LeaveOut::Row => other.row.line != run.row.line,
            LeaveOut::Group => other.group != run.group || is_anchor_of(other, run),
        };
        match case(run, &runs.iter().filter(stays).collect::<Vec<_>>())? {
            Ok(case) => cases.push(case),
            Err(not) => not_predicted.push(not),
        }
    }
    not_predicted.sort_by_key(|row| row.line);
    let left_out = match what {
        LeaveOut::Row => "the row",
        LeaveOut::Group => "all rows of its source but its anchor",
    };
    Ok(Report::new(left_out, cases, not_predicted))
}

/// Foretells `unseen` rows from `rows`, each with the help of its anchor, which may be unseen too.
pub fn foretell(rows: &[AccuracyRow], unseen: &[AccuracyRow]) -> Result<Report, FitError> {
    let all: Vec<AccuracyRow> = rows.iter().chain(unseen).cloned().collect();
    let (seen_rows, unseen_rows) = all.split_at(rows.len());
    let seen: Vec<Known<'_>> = seen_rows.iter().filter_map(|row| known(row, &all).ok()).collect();
    let anchors: Vec<Known<'_>> =
        unseen_rows.iter().filter_map(|row| known(row, &all).ok()).collect();
    let (mut cases, mut not_predicted) = (Vec::new(), Vec::new());
    for row in unseen_rows {
        let run = match known(row, &all) {
            Ok(run) => run,
            Err(reason) => {
                not_predicted.push(NotPredicted { id: row.id.clone(), line: row.line, reason });
                continue;
            }
        };
        let anchor = anchors.iter().filter(|other| is_anchor_of(other, &run));
        match case(&run, &seen.iter().chain(anchor).collect::<Vec<_>>()) {
            Ok(Ok(case)) => cases.push(case),
            Ok(Err(not)) => not_predicted.push(not),
            Err(_) => {
                let reason = "no fit can be made with its anchor";
                not_predicted.push(NotPredicted { id: row.id.clone(), line: row.line, reason });
            }
        }
    }
    Ok(Report::new("all rows that are foretold", cases, not_predicted))
}

fn is_anchor_of(other: &Known<'_>, run: &Known<'_>) -> bool {
    !run.sets_level && other.row.id == run.row.anchor
}

/// What `others` foretell of `run`, or why nothing.
fn case(run: &Known<'_>, others: &[&Known<'_>]) -> Result<Result<Case, NotPredicted>, FitError> {
    if let Some(reason) = unheard_of(run, others) {
        let (id, line) = (run.row.id.clone(), run.row.line);
        return Ok(Err(NotPredicted { id, line, reason }));
    }
    let law = law(others)?;
    let groups = groups(run, law.groups.contains(&run.group));
    let published = run.row.top1_percent;
    Ok(Ok(Case::points(&run.row.id, run.row.line, groups, published, &law.forecast(run))))
}

/// Why nothing left in says what a part of the recipe costs.
fn unheard_of(run: &Known<'_>, others: &[&Known<'_>]) -> Option<&'static str> {
    let recipe = run.training.recipe;
    let none = |same: &dyn Fn(&Known<'_>) -> bool| !others.iter().any(|other| same(other));
    let model = none(&|other| other.training.recipe.model == recipe.model);
    let warm_up = !recipe.warm_up && none(&|other| !other.training.recipe.warm_up);
    let decay = recipe.decay_on_bias_and_norm
        && none(&|other| other.training.recipe.decay_on_bias_and_norm);
    let gradients = recipe.loses_small_gradients()
        && none(&|other| other.training.recipe.loses_small_gradients());
    if model {
        Some("no other source has the model")
    } else if warm_up {
        Some("the only run without warm-up: what that costs is fitted to it alone")
    } else if decay {
        Some("the only run with decay on bias and batch norm: its cost is fitted to it alone")
    } else if gradients {
        Some("the only run in pure half precision: its cost is fitted to it alone")
    } else {
        None
    }
}

fn groups(run: &Known<'_>, level_known: bool) -> Vec<&'static str> {
    if run.training.recipe.model != Model::Resnet50 {
        return vec!["alexnet"];
    }
    if run.is_too_large() {
        return vec!["momentum above 16,384 images"];
    }
    if !run.is_unmodified() {
        return vec!["modified recipe"];
    }
    let level = match (level_known, run.sets_level) {
        (true, false) => "unmodified, against its anchor",
        (true, true) => "unmodified, level of its source",
        (false, _) => "unmodified, level of all sources",
    };
    vec!["unmodified", level]
}

//! The product of a scenario's sweep.

use super::Overrides;
use super::problem::Problem;
use super::resolve::{Case, case};
use super::spec::{FusionRule, ScenarioSpec};
use crate::profile::Profile;

/// More points than this are surely a mistake.
const CASES_MAX: usize = 10_000;

/// Sets the value at an index of a swept list.
type Setter<'a> = dyn Fn(&mut ScenarioSpec, usize) + 'a;

/// One swept key: its list, the key it sets, its values' labels, and how to set one.
struct Axis<'a> {
    list: &'static str,
    key: &'static str,
    labels: Vec<String>,
    set: Box<Setter<'a>>,
}

fn axis<'a, T: Clone>(
    (list, key): (&'static str, &'static str),
    values: &'a [T],
    label: impl Fn(&T) -> String,
    set: impl Fn(&mut ScenarioSpec, T) + 'a,
) -> Axis<'a> {
    Axis {
        list,
        key,
        labels: values.iter().map(label).collect(),
        set: Box::new(move |spec, index| set(spec, values[index].clone())),
    }
}

/// A scenario with some values set: its label, and where each swept key's value is written.
#[derive(Clone)]
struct Setting {
    spec: ScenarioSpec,
    labels: Vec<String>,
    written: Vec<(&'static str, String)>,
}

/// Every point of `spec`, the number of accelerators running fastest.
pub(super) fn cases(
    spec: &ScenarioSpec,
    variant: Option<&str>,
    overrides: Overrides,
    profile: Option<&Profile>,
) -> Result<Vec<Case>, Problem> {
    check(spec)?;
    check_size(spec)?;
    let algorithm = spec.allreduce.algorithm.unwrap_or_default();
    if !spec.sweep.group.is_empty() && spec.sweep.algorithm.is_empty() && !algorithm.has_groups() {
        let problem = format!("has no effect: the algorithm is {algorithm}, which has no groups");
        return Err(Problem::new("sweep.group", problem));
    }
    let mut base = spec.clone();
    base.simulation.seed = overrides.seed.or(base.simulation.seed);
    base.simulation.steps = overrides.steps.or(base.simulation.steps);
    let (curves, accelerators) = axes(spec);
    let labels = variant.map(str::to_owned).into_iter().collect();
    let mut settings = vec![Setting { spec: base, labels, written: Vec::new() }];
    for axis in &curves {
        settings = product(&settings, axis, true);
    }
    product(&settings, &accelerators, false)
        .into_iter()
        .map(|Setting { spec, labels, written }| {
            case(&spec, variant, labels.join(", "), profile).map_err(|mut problem| {
                // A swept value is written in its list, not where it acts.
                if let Some((_, list)) = written.iter().find(|(key, _)| *key == problem.key) {
                    problem.key.clone_from(list);
                }
                if let Some(name) = variant {
                    problem.problem = format!("{} (variant `{name}`)", problem.problem);
                }
                problem
            })
        })
        .collect()
}

/// The axes that make curves, and the one along them.
fn axes(spec: &ScenarioSpec) -> ([Axis<'_>; 8], Axis<'_>) {
    let sweep = &spec.sweep;
    let curves = [
        axis(
            ("sweep.algorithm", "allreduce.algorithm"),
            &sweep.algorithm,
            ToString::to_string,
            |spec, value| spec.allreduce.algorithm = Some(value),
        ),
        axis(
            ("sweep.group", "allreduce.group"),
            &sweep.group,
            |group| format!("groups of {group}"),
            |spec, value| spec.allreduce.group = Some(value),
        ),
        axis(
            ("sweep.threshold", "fusion.threshold"),
            &sweep.threshold,
            |bytes| format!("threshold {bytes}"),
            |spec, value| spec.fusion.threshold = Some(value),
        ),
        axis(
            ("sweep.overlap", "allreduce.overlap"),
            &sweep.overlap,
            |on| if *on { "overlap".to_owned() } else { "no overlap".to_owned() },
            |spec, on| spec.allreduce.overlap = Some(on),
        ),
        axis(
            ("sweep.optimizer", "training.optimizer"),
            &sweep.optimizer,
            ToString::to_string,
            |spec, value| spec.training.optimizer = Some(value),
        ),
        axis(
            ("sweep.epochs", "training.epochs"),
            &sweep.epochs,
            |epochs| format!("{epochs} epochs"),
            |spec, value| spec.training.epochs = Some(value),
        ),
        axis(
            ("sweep.per_accelerator_batch", "training.per_accelerator_batch"),
            &sweep.per_accelerator_batch,
            |batch| format!("batch {batch} each"),
            |spec, value| {
                spec.training.per_accelerator_batch = Some(value);
                spec.training.global_batch = None;
            },
        ),
        axis(
            ("sweep.global_batch", "training.global_batch"),
            &sweep.global_batch,
            |batch| format!("batch {batch}"),
            |spec, value| {
                spec.training.global_batch = Some(value);
                spec.training.per_accelerator_batch = None;
            },
        ),
    ];
    let accelerators = axis(
        ("sweep.accelerators", "cluster.accelerators"),
        &sweep.accelerators,
        ToString::to_string,
        |spec, value| spec.cluster.accelerators = Some(value),
    );
    (curves, accelerators)
}

/// What no single point can show to be wrong.
pub(super) fn check(spec: &ScenarioSpec) -> Result<(), Problem> {
    let sweep = &spec.sweep;
    if !sweep.per_accelerator_batch.is_empty() && !sweep.global_batch.is_empty() {
        let problem = "given beside sweep.per_accelerator_batch: leave one of them out";
        return Err(Problem::new("sweep.global_batch", problem));
    }
    if let Some(place) = sweep.accelerators.windows(2).position(|pair| pair[0] >= pair[1]) {
        let key = format!("sweep.accelerators[{}]", place + 1);
        return Err(Problem::new(&key, "expected increasing numbers, each once"));
    }
    let rule = spec.fusion.rule.unwrap_or_default();
    if !sweep.threshold.is_empty() && !matches!(rule, FusionRule::Threshold | FusionRule::Cycle) {
        let problem = "has no effect: only the fusion rules threshold and cycle have a threshold";
        return Err(Problem::new("sweep.threshold", problem));
    }
    Ok(())
}

/// What nobody waits for.
fn check_size(spec: &ScenarioSpec) -> Result<(), Problem> {
    let sweep = &spec.sweep;
    let lengths = [
        sweep.accelerators.len(),
        sweep.per_accelerator_batch.len(),
        sweep.global_batch.len(),
        sweep.algorithm.len(),
        sweep.group.len(),
        sweep.threshold.len(),
        sweep.overlap.len(),
        sweep.epochs.len(),
        sweep.optimizer.len(),
    ];
    let points =
        lengths.iter().fold(1, |product: usize, length| product.saturating_mul((*length).max(1)));
    if points > CASES_MAX {
        let problem = format!("{points} points, expected at most {CASES_MAX}: shorten a list");
        return Err(Problem::new("sweep", problem));
    }
    Ok(())
}

fn product(settings: &[Setting], axis: &Axis<'_>, labelled: bool) -> Vec<Setting> {
    if axis.labels.is_empty() {
        return settings.to_vec();
    }
    let mut points = Vec::new();
    for setting in settings {
        for (index, label) in axis.labels.iter().enumerate() {
            let mut point = setting.clone();
            (axis.set)(&mut point.spec, index);
            point.written.push((axis.key, format!("{}[{index}]", axis.list)));
            if labelled {
                point.labels.push(label.clone());
            }
            points.push(point);
        }
    }
    points
}

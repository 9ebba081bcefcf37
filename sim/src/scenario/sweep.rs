//! The product of a scenario's sweep.

use super::Overrides;
use super::resolve::{Case, Problem, case};
use super::spec::ScenarioSpec;

/// One swept key: the values' labels, and how to set one.
struct Axis<'a> {
    labels: Vec<String>,
    set: Box<dyn Fn(&mut ScenarioSpec, usize) + 'a>,
}

fn axis<'a, T: Clone>(
    values: &'a [T],
    label: impl Fn(&T) -> String,
    set: impl Fn(&mut ScenarioSpec, T) + 'a,
) -> Axis<'a> {
    Axis {
        labels: values.iter().map(label).collect(),
        set: Box::new(move |spec, index| set(spec, values[index].clone())),
    }
}

/// Every point of `spec`, the number of accelerators running fastest.
pub(super) fn cases(
    spec: &ScenarioSpec,
    variant: Option<&str>,
    overrides: Overrides,
) -> Result<Vec<Case>, Problem> {
    let mut base = spec.clone();
    base.simulation.seed = overrides.seed.or(base.simulation.seed);
    base.simulation.steps = overrides.steps.or(base.simulation.steps);
    let sweep = &spec.sweep;
    check_batches(spec)?;
    let axes = [
        axis(&sweep.algorithm, ToString::to_string, |spec, value| {
            spec.allreduce.algorithm = Some(value);
        }),
        axis(
            &sweep.group,
            |group| format!("groups of {group}"),
            |spec, value| {
                spec.allreduce.group = Some(value);
            },
        ),
        axis(
            &sweep.threshold,
            |bytes| format!("threshold {bytes}"),
            |spec, value| {
                spec.fusion.threshold = Some(value);
            },
        ),
        axis(
            &sweep.overlap,
            |on| if *on { "overlap" } else { "no overlap" }.into(),
            |spec, on| {
                spec.allreduce.overlap = Some(on);
            },
        ),
        axis(
            &sweep.per_accelerator_batch,
            |batch| format!("batch {batch} each"),
            |spec, value| {
                spec.training.per_accelerator_batch = Some(value);
                spec.training.global_batch = None;
            },
        ),
        axis(
            &sweep.global_batch,
            |batch| format!("batch {batch}"),
            |spec, value| {
                spec.training.global_batch = Some(value);
                spec.training.per_accelerator_batch = None;
            },
        ),
    ];
    let accelerators = axis(&sweep.accelerators, ToString::to_string, |spec, value| {
        spec.cluster.accelerators = Some(value);
    });
    let mut curves = vec![(base, variant.map(str::to_owned).into_iter().collect::<Vec<_>>())];
    for axis in &axes {
        curves = product(&curves, axis, true);
    }
    let mut cases = Vec::new();
    for (spec, labels) in product(&curves, &accelerators, false) {
        cases.push(case(&spec, variant, labels.join(", "))?);
    }
    Ok(cases)
}

/// Both kinds of batch swept would each undo the other.
fn check_batches(spec: &ScenarioSpec) -> Result<(), Problem> {
    let sweep = &spec.sweep;
    if !sweep.per_accelerator_batch.is_empty() && !sweep.global_batch.is_empty() {
        let problem = "given beside sweep.per_accelerator_batch: leave one of them out";
        return Err(Problem::new("sweep.global_batch", problem));
    }
    Ok(())
}

type Curve = (ScenarioSpec, Vec<String>);

fn product(curves: &[Curve], axis: &Axis<'_>, labelled: bool) -> Vec<Curve> {
    if axis.labels.is_empty() {
        return curves.to_vec();
    }
    let mut points = Vec::new();
    for (spec, labels) in curves {
        for (index, label) in axis.labels.iter().enumerate() {
            let (mut spec, mut labels) = (spec.clone(), labels.clone());
            (axis.set)(&mut spec, index);
            if labelled {
                labels.push(label.clone());
            }
            points.push((spec, labels));
        }
    }
    points
}

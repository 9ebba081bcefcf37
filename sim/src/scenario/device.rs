//! A point's compute where it was not measured: a device model from the datasheet.

use super::limits::check_memory;
use super::machine::{InputSource, Machine};
use super::problem::Problem;
use super::profiled::Measured;
use super::spec::ScenarioSpec;
use crate::catalogue::Overheads;
use crate::compute::{BatchNormGroup, Device, LaunchMode, Roofline};
use crate::units::SimDuration;
use crate::workload::{Network, NetworkName};

/// Factors of the roofline: work may take less than it, by a little, where kernels are fused more.
const FACTORS: std::ops::RangeInclusive<f64> = 0.1..=1000.0;

/// A network by its name, whose compute follows from a datasheet, and perhaps from an anchor of one
/// accelerator. (An anchor of several is met later, by simulating them.)
pub(super) fn compute(
    spec: &ScenarioSpec,
    machine: &Machine,
    accelerators: u32,
    batch: u64,
) -> Result<Measured, Problem> {
    if spec.compute.measured_on.is_some() {
        let problem = "has no effect without a profile: leave it out, or name one";
        return Err(Problem::new("compute.measured_on", problem));
    }
    let training = &spec.training;
    let model = training
        .model
        .ok_or_else(|| {
            let names = NetworkName::NAMES.join(", ");
            Problem::new("training.model", format!("missing: expected one of {names}"))
        })?
        .network();
    let precision = training.precision.unwrap_or_default();
    let accelerator = &machine.accelerator;
    let optimizer = training.optimizer.unwrap_or_default();
    check_memory(accelerator, &model, precision, optimizer, batch)?;
    let roofline = Roofline::new(accelerator, precision, optimizer).ok_or_else(|| {
        let problem = format!(
            "missing or zero: no peak rate of {} is published; give one, such as \"100 TFLOP/s\"",
            accelerator.title
        );
        Problem::new("accelerator.matrix_rate", problem)
    })?;
    let kernels = spec.compute.kernels.unwrap_or_default();
    let roofline = roofline.with_kernels(kernels, launch(spec, spec.compute.launch)?);
    let (factor, source) = factor(spec, &roofline, &model)?;
    let device = Device {
        roofline,
        factor: factor.unwrap_or(1.0),
        is_scaled: factor.is_some(),
        batch_norm: batch_norm_group(spec, machine, accelerators)?,
    };
    Ok(Measured {
        wire_bytes: precision.element_bytes(),
        times: device.times(&model, batch),
        model,
        precision,
        optimizer,
        extrapolated: None,
        source,
        device: Some(device),
    })
}

/// What each kernel takes besides its work.
pub(super) fn launch(
    spec: &ScenarioSpec,
    mode: Option<LaunchMode>,
) -> Result<SimDuration, Problem> {
    let longest = SimDuration::from_seconds(1.0);
    let compute = &spec.compute;
    if compute.launch_time.is_some_and(|time| time > longest) {
        return Err(Problem::new("compute.launch_time", "expected at most 1 s"));
    }
    let of_mode = mode.map(|mode| Overheads::shipped().kernel(mode));
    Ok(compute.launch_time.or(of_mode).unwrap_or(SimDuration::ZERO))
}

/// Where launches are from, if they take anything.
pub(super) fn launch_source(
    spec: &ScenarioSpec,
    device: Option<&Device>,
    model: &Network,
) -> Option<InputSource> {
    let roofline = device.map(|device| &device.roofline)?;
    let launch = roofline.launch();
    let mode = match spec.compute.launch {
        Some(LaunchMode::Graph) => "as one graph: ",
        Some(LaunchMode::Eager) => "one after the other: ",
        None => "",
    };
    let from = match (spec.compute.launch_time, spec.compute.launch) {
        (Some(_), _) => "scenario".to_owned(),
        (None, Some(_)) => Overheads::shipped().source.clone(),
        (None, None) => return None,
    };
    let value = format!("{mode}{} kernels a step, {launch} each", roofline.launches(model));
    Some(InputSource { what: "launches", value, from })
}

/// How many times as long as the roofline work takes, where that is known already, and its source.
fn factor(
    spec: &ScenarioSpec,
    roofline: &Roofline,
    model: &Network,
) -> Result<(Option<f64>, InputSource), Problem> {
    let source = |value: String, from: &str| InputSource {
        what: "compute times",
        value,
        from: from.to_owned(),
    };
    let (given, anchor) = (spec.compute.roofline_factor, spec.compute.anchor);
    let Some(anchor) = anchor else {
        let Some(factor) = given else {
            return Ok((None, source("roofline, not scaled".to_owned(), "datasheet rates")));
        };
        if !FACTORS.contains(&factor.get()) {
            let problem = "expected 0.1 x to 1000 x: work that takes half as long again as the \
                           roofline is \"1.5 x\"";
            return Err(Problem::new("compute.roofline_factor", problem));
        }
        let value = format!("roofline, {:.4} times as long", factor.get());
        return Ok((Some(factor.get()), source(value, "scenario (roofline_factor)")));
    };
    if given.is_some() {
        let problem = "given beside an anchor, from which it follows: leave one of them out";
        return Err(Problem::new("compute.roofline_factor", problem));
    }
    let source = source(format!("roofline scaled to {anchor}"), "scenario (anchor)");
    if anchor.accelerators > 1 {
        return Ok((None, source));
    }
    let factor = roofline.factor(model, anchor).ok_or_else(|| {
        let launches = roofline.launch() * roofline.launches(model);
        let problem = format!(
            "a step of {} images takes less than the launches of its kernels alone, {launches}: mend \
             it, compute.launch or compute.launch_time",
            anchor.batch
        );
        Problem::new("compute.anchor", problem)
    })?;
    Ok((Some(factor), source))
}

/// With whom a rank normalises; a group of more ranks than there are is one group of all.
fn batch_norm_group(
    spec: &ScenarioSpec,
    machine: &Machine,
    accelerators: u32,
) -> Result<Option<BatchNormGroup>, Problem> {
    let ranks = match spec.training.batch_norm_group {
        None | Some(1) => return Ok(None),
        Some(0) => {
            return Err(Problem::new("training.batch_norm_group", "0, expected at least 1"));
        }
        Some(ranks) => ranks.min(accelerators),
    };
    let (inside, between) = machine.links(accelerators)?;
    Ok(BatchNormGroup::new(ranks, machine.accelerators_per_node, inside, between))
}

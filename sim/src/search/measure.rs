//! From the time of a step to minutes and dollars.

use super::frontier::Measure;
use super::planned::Planned;
use crate::convergence::Outcome;
use crate::forecast;
use crate::scenario::{Case, Setup, SimulationError};

/// An end of training that can be chosen: its epochs, and its accuracy if that is forecast.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) epochs: f64,
    pub(super) outcome: Option<Outcome>,
}

impl End {
    pub(super) fn top1(&self) -> Option<f64> {
        Some(self.outcome.as_ref()?.top1.as_ref()?.value)
    }
}

/// What a run of steps of `step_s` takes.
pub(super) fn measure(case: &Case, end: &End, step_s: f64, evaluation_s: f64) -> Measure {
    let training_s = case.training_s(end.epochs, step_s, evaluation_s);
    // A run that would not end is beaten by all others.
    let minutes = forecast::minutes(case, training_s).unwrap_or(f64::INFINITY);
    let rate = case.cost.and_then(|cost| cost.usd_per_accelerator_hour).unwrap_or(0.0);
    let cost_usd = crate::cost::cost_usd(case.accelerators, minutes / 60.0, rate);
    Measure { minutes, cost_usd, top1_percent: end.top1().unwrap_or(0.0) }
}

/// Seconds of an evaluation, if there are any.
pub(super) fn evaluation_s(case: &Case) -> Result<f64, SimulationError> {
    if case.evaluate_every_epochs.is_some() { case.evaluation_s() } else { Ok(0.0) }
}

/// The candidate of a simulated step.
pub(super) fn planned(
    case: &Case,
    (offer, setup): (usize, Setup),
    end: &End,
    step_ms: f64,
    evaluation_s: f64,
) -> Planned {
    let step_s = step_ms / 1e3;
    let Measure { minutes, cost_usd, .. } = measure(case, end, step_s, evaluation_s);
    let top1 = end.outcome.as_ref().and_then(|outcome| outcome.top1.as_ref());
    Planned {
        variant: case.variant.clone(),
        accelerators: case.accelerators,
        nodes: case.nodes,
        per_accelerator_batch: case.per_accelerator_batch,
        global_batch: case.global_batch,
        optimizer: case.optimizer,
        epochs: end.epochs,
        algorithm: case.method.name().to_string(),
        group: case.method.group(),
        threshold: case.fusion.threshold(),
        overlap: case.overlap,
        step_ms,
        images_per_s: case.global_batch as f64 / step_s,
        time_to_train_min: minutes,
        cost_usd,
        top1_percent: top1.map(|top1| top1.value),
        top1_percent_low: top1.map(|top1| top1.low),
        top1_percent_high: top1.map(|top1| top1.high),
        offer,
        setup,
    }
}

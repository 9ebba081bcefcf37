//! One point: simulate its steps, then say what they mean for the run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bill::bill;
use super::interval::Ends;
use super::{Engine, Explanation, ForecastError};
use crate::collective::{LinkUse, Method};
use crate::fusion::Fusion;
use crate::jitter::Jitter;
use crate::network::{EdgeUse, LinkId};
use crate::scenario::{Case, SimulationError};
use crate::step::{Account, StepSummary, StepTimes};
use crate::units::{Bytes, SimTime};

/// The forecast of one point. What the scenario does not ask for is null.
///
/// `compute_ms`, `exposed_communication_ms`, `input_wait_ms` and `straggler_wait_ms` add up to
/// `step_ms`; all are means over ranks and steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// The variant, if the scenario has any.
    pub variant: Option<String>,
    /// The curve the point lies on: everything swept but the number of accelerators.
    pub series: String,
    /// Accelerators in all.
    pub accelerators: u32,
    /// Nodes.
    pub nodes: u32,
    /// Images of one accelerator's step.
    pub per_accelerator_batch: u64,
    /// Images of a step.
    pub global_batch: u64,
    /// The all-reduce algorithm.
    pub algorithm: String,
    /// From the end of one step to the end of the next.
    pub step_ms: f64,
    /// The 99th percentile of it over steps, on the last rank.
    pub step_ms_p99: f64,
    /// Forward, backward and optimizer.
    pub compute_ms: f64,
    /// Packing, all-reduce and unpacking, hidden or not, without waiting for late ranks.
    pub communication_ms: f64,
    /// What of it nothing hides.
    pub exposed_communication_ms: f64,
    /// Waiting for a batch.
    pub input_wait_ms: f64,
    /// Waiting for late ranks.
    pub straggler_wait_ms: f64,
    /// Throughput of all accelerators, step after step.
    pub images_per_s: f64,
    /// Throughput over an epoch of training: with what its start and its last batch lose, without
    /// evaluations.
    #[serde(default)]
    pub epoch_images_per_s: f64,
    /// Throughput over that of as many single accelerators with the same batch each, undisturbed and
    /// never waiting for input.
    pub scaling_efficiency: f64,
    /// How much of the time an accelerator computes.
    pub accelerator_busy_percent: f64,
    /// How much of the time the input's CPU workers decode.
    pub input_cpu_busy_percent: Option<f64>,
    /// How much of the time the busiest link carries data; not known where NCCL chooses, whose cost
    /// model is of all links together.
    pub network_busy_percent: Option<f64>,
    /// The links that are busy for the most of the time.
    #[serde(default)]
    pub links: Vec<LinkUse>,
    /// Passes over the training set: as given, or as the target accuracy needs.
    pub epochs: Option<f64>,
    /// The lower end of their interval of 95 %.
    #[serde(default)]
    pub epochs_low: Option<f64>,
    /// Its upper end; null where the target may never be reached.
    #[serde(default)]
    pub epochs_high: Option<f64>,
    /// From the first step to the last evaluation; with failures, the mean of what it takes with
    /// checkpoints, lost work and restarts.
    pub time_to_train_min: Option<f64>,
    /// The lower end of its interval of 95 %, of epochs, throughput and failures; only
    /// where accuracy is asked for.
    #[serde(default)]
    pub time_to_train_min_low: Option<f64>,
    /// Its upper end; null where the target may never be reached.
    #[serde(default)]
    pub time_to_train_min_high: Option<f64>,
    /// How much of the time to train is training that no failure undid, of a long run if `epochs` are not given; 0
    /// for a run that would not end.
    #[serde(default)]
    pub goodput_percent: Option<f64>,
    /// Failures in that time, on average.
    #[serde(default)]
    pub interruptions: Option<f64>,
    /// What checkpoints and failures add to the training itself, on average; in `time_to_train_min`.
    #[serde(default)]
    pub lost_min: Option<f64>,
    /// Its lower bound: 95 % of runs are between both.
    #[serde(default)]
    pub lost_min_low: Option<f64>,
    /// Its upper bound.
    #[serde(default)]
    pub lost_min_high: Option<f64>,
    /// Training between checkpoints.
    #[serde(default)]
    pub checkpoint_interval_min: Option<f64>,
    /// The optimum of it by Young (1974).
    #[serde(default)]
    pub checkpoint_interval_young_min: Option<f64>,
    /// The optimum of it by Daly (2006).
    #[serde(default)]
    pub checkpoint_interval_daly_min: Option<f64>,
    /// Accuracy at the end: as forecast, or as the target demands.
    pub top1_percent: Option<f64>,
    /// The lower end of its interval of 95 %; the target itself where training stops at it.
    pub top1_percent_low: Option<f64>,
    /// Its upper end.
    pub top1_percent_high: Option<f64>,
    /// The batch at which twice as many epochs are needed as of small ones, in images.
    #[serde(default)]
    pub critical_batch: Option<f64>,
    /// The price of the run: of all accelerators, for all of `time_to_train_min`.
    pub cost_usd: Option<f64>,
    /// Its energy, at full power while accelerators compute, and at idle power, where that is known,
    /// otherwise.
    pub energy_kwh: Option<f64>,
    /// Why it is slower than perfect scaling, where that was asked for ([`super::explain`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// Steps of an undisturbed run: after the warm-up each is like the one before, unless ticks fall
/// differently into each.
const UNDISTURBED_STEPS: u32 = 10;

/// The account of `steps` steps after the warm-up.
fn account(
    case: &Case,
    engine: Engine,
    steps: u32,
    mut observer: impl FnMut(&StepTimes),
) -> Result<(Account, Vec<EdgeUse>), ForecastError> {
    let mut account = Account::default();
    let edges = case.simulate(engine, case.warmup_steps + steps, |step, times| {
        if step >= case.warmup_steps {
            account.add(times);
            observer(times);
        }
    })?;
    Ok((account, edges))
}

/// The means of the point's steps, which `observer` sees, and what edges carried in all.
pub(super) fn summary(
    case: &Case,
    engine: Engine,
    observer: impl FnMut(&StepTimes),
) -> Result<(StepSummary, Vec<EdgeUse>), ForecastError> {
    let (account, edges) = account(case, engine, case.steps, observer)?;
    if case.jitter == Jitter::default() {
        return Ok((account.summary(&account), edges));
    }
    let mut undisturbed = case.clone();
    undisturbed.jitter = Jitter::default();
    let steps = match case.fusion {
        Fusion::Cycle { .. } => case.steps,
        _ => case.steps.min(UNDISTURBED_STEPS),
    };
    Ok((account.summary(&self::account(&undisturbed, engine, steps, |_| {})?.0), edges))
}

pub(super) fn point(case: &Case, engine: Engine) -> Result<Point, ForecastError> {
    let mut buckets: BTreeMap<Bytes, u64> = BTreeMap::new();
    let (summary, edges) = summary(case, engine, |times| {
        for bucket in &times.buckets {
            *buckets.entry(bucket.bytes).or_default() += 1;
        }
    })?;
    let step_s = summary.step_ms / 1e3;
    let images_per_s = case.global_batch as f64 / step_s;
    let percent_of_step = |seconds: f64| 100.0 * seconds / step_s;
    let links = LinkUse::hottest(link_uses(case, &buckets, &edges, step_s)?);
    let busy = summary.compute_ms / summary.step_ms;
    let bill = bill(case, training_s(case, step_s)?, busy);
    let outcome = Ends::of(case, &bill);
    Ok(Point {
        variant: case.variant.clone(),
        series: case.series.clone(),
        accelerators: case.accelerators,
        nodes: case.nodes,
        per_accelerator_batch: case.per_accelerator_batch,
        global_batch: case.global_batch,
        algorithm: case.method.name().to_string(),
        step_ms: summary.step_ms,
        step_ms_p99: summary.step_ms_p99,
        compute_ms: summary.compute_ms,
        communication_ms: summary.communication_ms,
        exposed_communication_ms: summary.exposed_communication_ms,
        input_wait_ms: summary.input_wait_ms,
        straggler_wait_ms: summary.straggler_wait_ms,
        images_per_s,
        epoch_images_per_s: case.epoch_images() / case.epoch_s(step_s),
        scaling_efficiency: images_per_s / (f64::from(case.accelerators) * rate_of_one(case)),
        accelerator_busy_percent: percent_of_step(summary.compute_ms / 1e3),
        input_cpu_busy_percent: input_cpu_busy_percent(case, &summary),
        network_busy_percent: match case.method {
            Method::Nccl(_) => None,
            Method::Strategy(_) if case.accelerators == 1 => Some(0.0),
            Method::Strategy(_) => links.first().map(|link| link.busy_percent),
        },
        links,
        epochs: case.epochs,
        epochs_low: outcome.epochs_low,
        epochs_high: outcome.epochs_high,
        time_to_train_min: bill.time_to_train_min,
        time_to_train_min_low: outcome.minutes_low,
        time_to_train_min_high: outcome.minutes_high,
        top1_percent: outcome.top1.map(|top1| top1.value),
        top1_percent_low: outcome.top1.map(|top1| top1.low),
        top1_percent_high: outcome.top1.map(|top1| top1.high),
        critical_batch: case.outcome.as_ref().map(|outcome| outcome.critical_batch.images),
        goodput_percent: bill.goodput_percent,
        interruptions: bill.interruptions,
        lost_min: bill.lost_min,
        lost_min_low: bill.lost_min_low,
        lost_min_high: bill.lost_min_high,
        checkpoint_interval_min: bill.checkpoint_interval_min,
        checkpoint_interval_young_min: bill.checkpoint_interval_young_min,
        checkpoint_interval_daly_min: bill.checkpoint_interval_daly_min,
        cost_usd: bill.cost_usd,
        energy_kwh: bill.energy_kwh,
        explanation: None,
    })
}

/// Images per second of one undisturbed accelerator whose batches are always there.
fn rate_of_one(case: &Case) -> f64 {
    case.per_accelerator_batch as f64 / case.compute.step().as_seconds()
}

fn input_cpu_busy_percent(case: &Case, summary: &StepSummary) -> Option<f64> {
    let decode_s = case.input.as_ref()?.decode_s_per_image * case.per_accelerator_batch as f64;
    (decode_s > 0.0).then_some(100.0 * decode_s * 1e3 / summary.step_ms)
}

/// What links carry in a mean step of `step_s`. Where messages are flows, what their edges carried in
/// the whole run, the warm-up included; else what the schedules of all buckets put on them.
fn link_uses(
    case: &Case,
    buckets: &BTreeMap<Bytes, u64>,
    edges: &[EdgeUse],
    step_s: f64,
) -> Result<Vec<LinkUse>, ForecastError> {
    if let Some(first) = edges.first() {
        let run_steps = f64::from(case.steps + case.warmup_steps);
        let mut uses = LinkUse::of_flows(&case.network, edges, first.until.since(SimTime::ZERO));
        uses.iter_mut().for_each(|used| used.bytes /= run_steps);
        return Ok(uses);
    }
    // NCCL's choices are of all channels over all links at once.
    if matches!(case.method, Method::Nccl(_)) {
        return Ok(Vec::new());
    }
    let mut loads: BTreeMap<LinkId, (f64, f64)> = BTreeMap::new();
    for (&bytes, &count) in buckets {
        let plan = case.all_reduce(bytes).map_err(SimulationError::Collective)?;
        let each = count as f64 / f64::from(case.steps);
        for (link, load) in plan.schedule.loads(&plan.network) {
            let (bytes, busy_s) = loads.entry(link).or_default();
            *bytes += load.bytes as f64 * each;
            *busy_s += load.busy.as_seconds() * each;
        }
    }
    Ok(LinkUse::of_loads(&case.network, &loads, step_s))
}

/// Seconds of epochs of training, and the evaluations.
fn training_s(case: &Case, step_s: f64) -> Result<Option<f64>, ForecastError> {
    let Some(epochs) = case.epochs else { return Ok(None) };
    let evaluations = case.evaluations();
    let evaluation_s = if evaluations > 0.0 { case.evaluation_s()? } else { 0.0 };
    Ok(Some(case.training_s(epochs, step_s, evaluation_s)))
}

//! What cannot be simulated, or could not run: too much memory, time or messages.

use super::problem::Problem;
use super::resolve::Case;
use crate::catalogue::Accelerator;
use crate::collective::{CollectiveError, Plan};
use crate::compute::{MemoryNeed, Optimizer, Precision};
use crate::fusion::{Fusion, gradients};
use crate::network::NetworkModel as _;
use crate::units::{Bytes, SimDuration};
use crate::workload::Network;

/// What must fit at least: parameters with their optimizer state, and the activations kept for the
/// backward pass.
pub(super) fn check_memory(
    accelerator: &Accelerator,
    model: &Network,
    precision: Precision,
    optimizer: Optimizer,
    batch: u64,
) -> Result<(), Problem> {
    let least = MemoryNeed::least(model, precision, optimizer);
    let (memory, needed) = (accelerator.memory, least.at(batch));
    if needed <= memory {
        return Ok(());
    }
    let gib = |bytes: Bytes| bytes.get() as f64 / f64::from(1 << 30);
    let fits = least.largest_batch(memory);
    Err(Problem::new(
        "training.per_accelerator_batch",
        format!(
            "{batch} images of {} need at least {:.1} GiB, {} has {:.0} GiB; at most {fits} can fit",
            model.name(),
            gib(needed),
            accelerator.title,
            gib(memory)
        ),
    ))
}

/// Longer simulated times than this, 116 days, are refused: u64 picoseconds reach 213.
const SIMULATED_S_MAX: f64 = 1e7;
/// A step of less time than this would be rounded to picoseconds too coarsely.
const COMPUTE_S_MIN: f64 = 1e-6;
/// More messages than this take hours.
const MESSAGES_MAX: f64 = 1e13;
/// More flows than this take from minutes, where they are alike, to hours.
const FLOWS_MAX: f64 = 1e9;
/// A mean of jitter factors above this does not occur.
const JITTER_MAX: f64 = 20.0;

fn all_reduce(case: &Case, bytes: Bytes) -> Result<Plan, Problem> {
    case.all_reduce(bytes).map_err(|error| schedule_problem(&error))
}

/// The key that keeps a collective from being scheduled.
pub(super) fn schedule_problem(error: &CollectiveError) -> Problem {
    let key = match error {
        CollectiveError::GroupDoesNotDivide { .. } | CollectiveError::DirectGroup(_) => {
            "allreduce.group"
        }
        CollectiveError::PartialNodes { .. } | CollectiveError::Ranks(_) => "cluster.accelerators",
        CollectiveError::Channels(_) => "allreduce.channels",
        CollectiveError::NotDone { .. } => "allreduce.algorithm",
    };
    Problem::new(key, error.to_string())
}

/// Refuses what would not end, or would not fit simulated time.
pub(super) fn check_work(case: &Case) -> Result<(), Problem> {
    let steps = f64::from(case.steps) + f64::from(case.warmup_steps);
    let slow: f64 = case.jitter.slow_ranks.iter().map(|slow| slow.factor).product();
    let varying = if case.jitter.variation > 0.0 { JITTER_MAX } else { 1.0 };
    let compute_s = case.compute.step().as_seconds();
    if compute_s < COMPUTE_S_MIN {
        let problem = "a step of less than a microsecond: look for a rate that is far off";
        return Err(Problem::new("compute.anchor", problem));
    }
    let input_s = case.input.as_ref().map_or(0.0, |rates| {
        let image_s = rates.decode_s_per_image + rates.storage_s_per_image;
        let image_bytes = case.model.input_shape().elements() * case.precision.element_bytes();
        let batch = Bytes::new(image_bytes) * case.per_accelerator_batch;
        let copy = rates.host_link.map_or(SimDuration::ZERO, |link| link.message_time(batch));
        image_s * case.per_accelerator_batch as f64 + copy.as_seconds()
    });
    let tick_s = match case.fusion {
        Fusion::Cycle { cycle, .. } => cycle.as_seconds(),
        _ => 0.0,
    };
    let gradients = gradients(&case.model, &case.compute, case.wire_element_bytes);
    let buckets = case.fusion.static_buckets(&gradients).map_or(gradients.len(), |all| all.len());
    let bytes = Bytes::new(case.model.parameter_count() * case.wire_element_bytes);
    // All buckets together: the latencies of each, and every gradient once.
    let (latencies, whole) = (all_reduce(case, Bytes::new(1))?, all_reduce(case, bytes)?);
    let both = |of: &dyn Fn(&Plan) -> f64| of(&latencies) * buckets as f64 + of(&whole);
    let packed = |bytes| {
        let (pack, unpack) = case.packing.times(bytes, 2);
        pack.as_seconds() + unpack.as_seconds()
    };
    let pack_s = packed(Bytes::ZERO) * buckets as f64 + packed(bytes);
    let reduce_s = both(&|plan| plan.schedule.longest_time_s(&plan.network))
        + tick_s * buckets as f64
        + pack_s;
    let step_s = compute_s * slow * varying + input_s + reduce_s;
    if steps * step_s > SIMULATED_S_MAX {
        let problem = format!(
            "{steps} steps of up to {step_s:.3e} s are more simulated time than {SIMULATED_S_MAX:.0e} s: \
             take fewer steps, or look for a rate, a latency or a factor that is far off"
        );
        return Err(Problem::new("simulation.steps", problem));
    }
    let messages = both(&|plan| plan.schedule.messages() as f64) * steps;
    let is_flowing = whole.network.flows().is_some();
    if is_flowing && messages > FLOWS_MAX {
        let problem = format!(
            "up to {messages:.1e} messages as flows, expected at most {FLOWS_MAX:.0e}: take fewer \
             steps or accelerators, or contention \"shared\""
        );
        return Err(Problem::new("simulation.steps", problem));
    }
    if messages > MESSAGES_MAX {
        let problem = format!(
            "up to {messages:.1e} messages, expected at most {MESSAGES_MAX:.0e}: take fewer steps, \
             fewer accelerators, or a hierarchical all-reduce"
        );
        return Err(Problem::new("simulation.steps", problem));
    }
    Ok(())
}

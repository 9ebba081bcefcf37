//! What a step takes at least.
//!
//! *By compute*: no step is shorter than its compute, whose mean over steps differs from the undisturbed
//! one by chance only. *By a step*: without jitter. The end of a step is a maximum of sums of times that
//! vary, each with its undisturbed value as mean, so its mean is at least that of a step without jitter
//! (Jensen's inequality); ranks that are always slower are part of both.
//!
//! Both hold for means over infinitely many steps. The mean of n steps that are simulated may fall short
//! of it, at most by what the mean compute of one rank does: in all but one of 30,000 times by less than
//! four standard errors, σ/√n each, with σ the variation of compute.

use crate::collective::Engine;
use crate::fusion::Fusion;
use crate::jitter::Jitter;
use crate::scenario::{Case, SimulationError};

/// Standard errors by which the mean of the simulated steps may fall short of its expectation.
const STANDARD_ERRORS: f64 = 4.0;

/// The part of a bound that chance leaves.
pub(super) fn certain(case: &Case) -> f64 {
    (1.0 - STANDARD_ERRORS * case.jitter.variation / f64::from(case.steps).sqrt()).max(0.0)
}

/// Seconds of compute alone, which no step is shorter than.
pub(super) fn by_compute(case: &Case) -> f64 {
    let slowest = case.jitter.slow_ranks.iter().filter(|slow| slow.rank.0 < case.accelerators);
    let slowest = slowest.map(|slow| slow.factor).fold(1.0, f64::max);
    case.compute.step().as_seconds() * slowest * certain(case)
}

/// Whether one step says something of the mean: not where batches or ticks are waited for, and not where
/// messages are flows, which share links while they last, so that a delay of one may speed up another.
fn is_convex(case: &Case) -> bool {
    let flows = case.engine(super::ENGINE) == Engine::Events;
    case.input.is_none() && !matches!(case.fusion, Fusion::Cycle { .. }) && !flows
}

/// Seconds of a step without jitter, the first; none where it says nothing of the mean.
pub(super) fn of_one_step(case: &Case) -> Result<Option<f64>, SimulationError> {
    if !is_convex(case) {
        return Ok(None);
    }
    let mut undisturbed = case.clone();
    undisturbed.jitter =
        Jitter { variation: 0.0, slow_ranks: case.jitter.slow_ranks.clone(), ..Jitter::default() };
    undisturbed.steps = 1;
    undisturbed.warmup_steps = 0;
    Ok(Some(undisturbed.mean_step_s(super::ENGINE)?))
}

/// Seconds of the mean of a few steps with jitter, the first of those that are simulated; none where they
/// say nothing of the mean.
pub(super) fn of_few_steps(case: &Case) -> Result<Option<f64>, SimulationError> {
    if !is_convex(case) {
        return Ok(None);
    }
    let mut few = case.clone();
    few.warmup_steps = case.warmup_steps.min(1);
    few.steps = case.steps.min(FEW);
    Ok(Some(few.mean_step_s(super::ENGINE)?))
}

/// Steps that are few.
const FEW: u32 = 2;

/// How many times as long as the shortest of a cell a step without jitter may take whose mean with
/// jitter might still be the shortest.
///
/// Choices of a cell see the same draws of jitter, so that what it costs differs little between them:
/// what one hides of a late rank and the other does not is a part of its delay. This and
/// [`near_in_few_steps`] are rules of thumb and no bounds; a test compares the search with an exhaustive
/// one.
pub(super) fn near(case: &Case) -> f64 {
    1.0 + (0.5 * case.jitter.variation).max(NEAR_MIN)
}

/// How many times as long as the shortest of a cell the mean of a few steps may be, if that of all steps
/// might still be the shortest.
pub(super) fn near_in_few_steps(case: &Case) -> f64 {
    1.0 + (0.2 * case.jitter.variation).max(NEAR_MIN)
}

/// Steps that are not the first differ a little even without jitter, since ranks end at other times.
const NEAR_MIN: f64 = 0.001;

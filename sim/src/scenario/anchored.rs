//! An anchor of several accelerators: the factor of the roofline with which they, simulated as the
//! point is, reach the rate that was measured.
//!
//! Their rate has in it what they wait for each other, what the start of an epoch takes and what its
//! last batch loses, as the forecast's has; only what is left is scaled.

use super::problem::Problem;
use super::resolve::{self, Case};
use super::spec::ScenarioSpec;
use crate::collective::Engine;
use crate::compute::Anchor;
use crate::network::FabricTopology;
use crate::profile::Profile;

/// How close the simulated rate comes to the measured one.
const RELATIVE_ERROR: f64 = 1e-7;
/// Farther off, no factor gives the rate: what takes the time is not scaled.
const RELATIVE_ERROR_MAX: f64 = 1e-3;
/// The step is nearly linear in the factor; more are never needed.
const STEPS_MAX: u32 = 60;
/// No kernel is farther behind its roofline.
const FACTOR_MAX: f64 = 1e5;
/// Longer simulated times than this are refused; a step may be several times as long as the mean.
const SIMULATED_S_MAX: f64 = 1e6;

/// Scales `case` to the anchor of `spec`, if that is of several accelerators.
///
/// # Errors
/// The anchor's run cannot be simulated, or is faster than all that is not scaled.
pub(super) fn scale(
    case: &mut Case,
    spec: &ScenarioSpec,
    profile: Option<&Profile>,
) -> Result<(), Problem> {
    let Some(anchor) = case.anchor else { return Ok(()) };
    if anchor.accelerators == 1 || case.device.is_none() {
        return Ok(());
    }
    let mut run = run(spec, profile, anchor)?;
    let factor = factor(&mut run, anchor)?;
    run.scale_to(factor);
    case.scale_to(factor);
    case.anchor_run = Some(Box::new(run));
    Ok(())
}

impl Case {
    /// Work takes `factor` times as long as the roofline from now on.
    fn scale_to(&mut self, factor: f64) {
        if let Some(device) = &mut self.device {
            (device.factor, device.is_scaled) = (factor, true);
            self.compute = device.times(&self.model, self.per_accelerator_batch);
        }
    }
}

fn factor(run: &mut Case, anchor: Anchor) -> Result<f64, Problem> {
    let wrong = |problem: String| Problem::new("compute.anchor", problem);
    let epoch_s = run.epoch_images() / anchor.rate.get();
    let target_s = (epoch_s - run.epoch_start.as_seconds()) / run.steps_per_epoch();
    if target_s * f64::from(run.steps + run.warmup_steps) > SIMULATED_S_MAX {
        return Err(wrong(format!("its step takes {target_s:.0} s: too long to be simulated")));
    }
    let mut step_s = |factor: f64| {
        run.scale_to(factor);
        run.mean_step_s(Engine::Folded).map_err(|error| wrong(error.to_string()))
    };
    let (mut low, mut low_s) = (0.0, step_s(0.0)?);
    if target_s <= low_s {
        return Err(wrong(format!(
            "its step takes {:.3} ms, less than launches, communication, input and the start of an \
             epoch alone, {:.3} ms",
            1e3 * target_s,
            1e3 * low_s
        )));
    }
    let (mut high, mut high_s) = (1.0, step_s(1.0)?);
    while high_s < target_s && high < FACTOR_MAX {
        (low, low_s) = (high, high_s);
        high *= 2.0;
        high_s = step_s(high)?;
    }
    // Between both, where the line through them meets the target (regula falsi); the middle where that
    // does not get on.
    let mut best = (high, high_s);
    for round in 0..STEPS_MAX {
        if (best.1 / target_s - 1.0).abs() < RELATIVE_ERROR {
            break;
        }
        let share = (target_s - low_s) / (high_s - low_s);
        let share = if share.is_finite() && round % 3 != 2 { share } else { 0.5 };
        let next = low + share * (high - low);
        let next_s = step_s(next)?;
        if next_s < target_s {
            (low, low_s) = (next, next_s);
        } else {
            (high, high_s) = (next, next_s);
        }
        best = if (next_s - target_s).abs() < (best.1 - target_s).abs() {
            (next, next_s)
        } else {
            best
        };
    }
    if (best.1 / target_s - 1.0).abs() > RELATIVE_ERROR_MAX {
        return Err(wrong(format!(
            "its step takes {:.3} ms, and no speed of the accelerators gives that; the nearest is \
             {:.3} ms: look at the input and at fusion by ticks",
            1e3 * target_s,
            1e3 * best.1
        )));
    }
    Ok(best.0)
}

/// The run of the anchor: that of the point, on the anchor's accelerators and at its batch.
fn run(spec: &ScenarioSpec, profile: Option<&Profile>, anchor: Anchor) -> Result<Case, Problem> {
    let mut of_anchor = spec.clone();
    of_anchor.cluster.accelerators = Some(anchor.accelerators);
    of_anchor.training.per_accelerator_batch = Some(anchor.batch);
    of_anchor.training.global_batch = None;
    // Groups are made where a rank has too few images of its own, which an anchor rarely has.
    of_anchor.training.batch_norm_group = None;
    of_anchor.compute.anchor = None;
    // One node has no fabric, of whatever shape that of the cluster is.
    let of_one_node =
        of_anchor.cluster.accelerators_per_node.is_some_and(|n| anchor.accelerators <= n);
    if of_one_node && of_anchor.cluster.fabric.is_some() {
        of_anchor.cluster.fabric = Some(FabricTopology::SingleSwitch {});
    }
    resolve::case(&of_anchor, None, String::new(), profile).map_err(|error| {
        let problem =
            format!("its {} accelerators: `{}`: {}", anchor.accelerators, error.key, error.problem);
        Problem::new("compute.anchor", problem)
    })
}

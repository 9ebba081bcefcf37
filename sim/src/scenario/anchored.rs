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

/// How close the simulated rate comes to the measured one.
const RELATIVE_ERROR: f64 = 1e-7;
/// The step is nearly linear in the factor; more are never needed.
const STEPS_MAX: u32 = 30;

/// Scales `case` to the anchor of `spec`, if that is of several accelerators.
///
/// # Errors
/// The anchor's run cannot be simulated, or is faster than all that is not scaled.
pub(super) fn scale(case: &mut Case, spec: &ScenarioSpec) -> Result<(), Problem> {
    let Some(anchor) = case.anchor else { return Ok(()) };
    if anchor.accelerators == 1 || case.device.is_none() {
        return Ok(());
    }
    let mut run = run(spec, anchor)?;
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
    let epoch_s = run.images as f64 / anchor.rate.get();
    let target_s = (epoch_s - run.epoch_start.as_seconds()) / run.steps_per_epoch();
    let mut step_s = |factor: f64| {
        run.scale_to(factor);
        run.mean_step_s(Engine::Arrays).map_err(|error| wrong(error.to_string()))
    };
    let (mut below, mut below_s) = (0.0, step_s(0.0)?);
    if target_s <= below_s {
        return Err(wrong(format!(
            "its step takes {:.3} ms, less than launches, communication and the start of an epoch \
             alone, {:.3} ms",
            1e3 * target_s,
            1e3 * below_s
        )));
    }
    // The secant through the last two, from 0 and 1 on.
    let (mut above, mut above_s) = (1.0, step_s(1.0)?);
    for _ in 0..STEPS_MAX {
        if (above_s / target_s - 1.0).abs() < RELATIVE_ERROR || above_s == below_s {
            break;
        }
        let next = above + (target_s - above_s) * (above - below) / (above_s - below_s);
        (below, below_s) = (above, above_s);
        above = next.max(0.0);
        above_s = step_s(above)?;
    }
    Ok(above)
}

/// The run of the anchor: that of the point, on the anchor's accelerators and at its batch.
fn run(spec: &ScenarioSpec, anchor: Anchor) -> Result<Case, Problem> {
    let mut of_anchor = spec.clone();
    of_anchor.cluster.accelerators = Some(anchor.accelerators);
    of_anchor.training.per_accelerator_batch = Some(anchor.batch);
    of_anchor.training.global_batch = None;
    // Groups are made where a rank has too few images of its own, which an anchor rarely has.
    of_anchor.training.batch_norm_group = None;
    of_anchor.compute.anchor = None;
    resolve::case(&of_anchor, None, String::new(), None).map_err(|error| {
        let problem =
            format!("its {} accelerators: `{}`: {}", anchor.accelerators, error.key, error.problem);
        Problem::new("compute.anchor", problem)
    })
}

//! Why a point is slower than perfect scaling: a waterfall from the anchor's rate to the forecast.
//!
//! Perfect scaling gives every accelerator the rate that the anchor had (or, without an anchor, that
//! of one accelerator alone at the same batch). The time for one global batch is then longer by what
//! each part of a step takes more than its share of the anchor's:
//!
//! ```text
//! t = t(perfect) + Σ over parts of ( part − b/b₀ · the anchor's part )
//! ```
//!
//! with b images an accelerator here and b₀ there. What happens once an epoch or once an evaluation is
//! divided among the global batches of the run, so the parts add up to the whole run exactly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Engine, ForecastError, point};
use crate::compute::Device;
use crate::scenario::Case;
use crate::units::SimDuration;

/// A part of what a step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Work of forward, backward and update.
    Work,
    /// What kernels take besides their work.
    Launches,
    /// Ranks that normalise together.
    BatchNormGroups,
    /// Communication that nothing hides.
    ExposedCommunication,
    /// Late ranks: waiting for them, and what they take longer themselves.
    StragglerWait,
    /// Waiting for batches.
    InputWait,
    /// The last batch of an epoch, which is not full.
    LastBatch,
    /// The start of an epoch.
    EpochStart,
    /// Evaluations.
    Evaluations,
}

impl Part {
    /// All, in the order of the waterfall.
    pub const ALL: [Self; 9] = [
        Self::Work,
        Self::Launches,
        Self::BatchNormGroups,
        Self::ExposedCommunication,
        Self::StragglerWait,
        Self::InputWait,
        Self::LastBatch,
        Self::EpochStart,
        Self::Evaluations,
    ];

    /// What a reader calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Work => "small batch: work",
            Self::Launches => "small batch: launches",
            Self::BatchNormGroups => "batch-norm groups",
            Self::ExposedCommunication => "exposed communication",
            Self::StragglerWait => "stragglers",
            Self::InputWait => "input wait",
            Self::LastBatch => "last batch of an epoch",
            Self::EpochStart => "start of an epoch",
            Self::Evaluations => "evaluations",
        }
    }
}

/// One step of the waterfall.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPart {
    /// What takes longer.
    pub part: Part,
    /// By how much, for one global batch.
    pub ms: f64,
    /// The throughput with this part and all before it.
    pub images_per_s: f64,
}

/// The waterfall of one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// What perfect scaling is relative to.
    pub reference: String,
    /// Images of a step of all accelerators.
    pub global_batch: u64,
    /// What one global batch takes with perfect scaling.
    pub perfect_ms: f64,
    /// The throughput of perfect scaling.
    pub perfect_images_per_s: f64,
    /// What takes longer, in the order of [`Part::ALL`]; what takes the same is left out.
    pub parts: Vec<ExplainedPart>,
    /// What one global batch takes: the share of the whole run.
    pub ms: f64,
    /// The throughput of the whole run, evaluations included.
    pub images_per_s: f64,
}

/// Milliseconds of each part for one global batch, in the order of [`Part::ALL`].
type Parts = [f64; 9];

/// Explains the forecast of `case`.
///
/// # Errors
/// If the point cannot be simulated; one of a checked scenario can.
pub fn explain(case: &Case, engine: Engine) -> Result<Explanation, ForecastError> {
    let here = parts(case, engine)?;
    let (reference, there, share) = reference(case, engine)?;
    let perfect_ms = share * there.iter().sum::<f64>();
    let images_per_s = |ms: f64| case.global_batch as f64 / (ms / 1e3);
    let mut ms = perfect_ms;
    let mut explained = Vec::new();
    for ((part, here), there) in Part::ALL.into_iter().zip(here).zip(there) {
        let more = here - share * there;
        ms += more;
        // Picoseconds of rounding explain nothing.
        if more.abs() > 1e-6 {
            explained.push(ExplainedPart { part, ms: more, images_per_s: images_per_s(ms) });
        }
    }
    Ok(Explanation {
        reference,
        global_batch: case.global_batch,
        perfect_ms,
        perfect_images_per_s: images_per_s(perfect_ms),
        parts: explained,
        ms,
        images_per_s: images_per_s(ms),
    })
}

/// What perfect scaling is relative to: its parts, and the share of them that falls on the images
/// which an accelerator has here.
fn reference(case: &Case, engine: Engine) -> Result<(String, Parts, f64), ForecastError> {
    let batch = case.per_accelerator_batch;
    if let (Some(anchor), Some(run)) = (case.anchor, &case.anchor_run) {
        // A rate of several has their epochs in it, and not their evaluations.
        let mut there = parts(run, engine)?;
        there[8] = 0.0;
        return Ok((format!("the anchor, {anchor}"), there, batch as f64 / anchor.batch as f64));
    }
    let (text, times, of) = match (case.anchor, &case.device) {
        (Some(anchor), Some(device)) => {
            let text = format!("the anchor, {anchor}");
            let alone = Device { batch_norm: None, ..*device };
            (text, alone.times(&case.model, anchor.batch), anchor.batch)
        }
        (None, Some(device)) => {
            let alone = Device { batch_norm: None, ..*device };
            let text = format!("one accelerator alone at {batch} images");
            (text, alone.times(&case.model, batch), batch)
        }
        (_, None) => {
            let text = format!("one accelerator alone at {batch} images");
            (text, case.compute.clone(), batch)
        }
    };
    let launches_ms = launches(case).as_ms();
    let there =
        [times.step().as_ms() - launches_ms, launches_ms, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    Ok((text, there, batch as f64 / of as f64))
}

/// What the launches of a step take.
fn launches(case: &Case) -> SimDuration {
    case.device.map_or(SimDuration::ZERO, |device| {
        device.roofline.launch() * device.roofline.launches(&case.model)
    })
}

/// What ranks that normalise together take in a step.
fn batch_norms(case: &Case) -> SimDuration {
    case.device.map_or(SimDuration::ZERO, |device| {
        let alone = Device { batch_norm: None, ..device };
        let batch = case.per_accelerator_batch;
        device.times(&case.model, batch).step() - alone.times(&case.model, batch).step()
    })
}

fn parts(case: &Case, engine: Engine) -> Result<Parts, ForecastError> {
    let summary = point::summary(case, engine, |_| {})?.0;
    let (launches_ms, batch_norm_ms) = (launches(case).as_ms(), batch_norms(case).as_ms());
    // What jitter and slow ranks add to compute is no one's batch.
    let alone_ms = case.compute.step().as_ms();
    // Of a full batch: an epoch has images over global batch of them, and steps as its last is handled.
    let batches = case.epoch_images() / case.global_batch as f64;
    let evaluations_ms = match case.epochs {
        Some(epochs) if case.evaluations() > 0.0 => {
            1e3 * case.evaluations() * case.evaluation_s()? / (epochs * batches)
        }
        _ => 0.0,
    };
    Ok([
        alone_ms - launches_ms - batch_norm_ms,
        launches_ms,
        batch_norm_ms,
        summary.exposed_communication_ms,
        summary.straggler_wait_ms + summary.compute_ms - alone_ms,
        summary.input_wait_ms,
        summary.step_ms * (case.steps_per_epoch() / batches - 1.0),
        case.epoch_start.as_ms() / batches,
        evaluations_ms,
    ])
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

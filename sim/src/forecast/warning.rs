//! What a reader of a forecast should keep in mind.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, compare};
use crate::compute::{ComputeSource, MemoryNeed};
use crate::convergence::EPOCHS_MAX;
use crate::network::Contention;
use crate::scenario::Case;
use crate::scenario::spec::PublishedSpec;
use crate::units::Bytes;

/// The kind of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WarningCode {
    /// Compute times are a bound, not a measurement.
    RooflineBound,
    /// The batch is not the one the anchor was measured at.
    ExtrapolatedBatch,
    /// Several messages leave a node at the same time.
    CrowdedNode,
    /// The accelerator does not do the narrow format faster than fp32.
    ArithmeticInFp32,
    /// The batch fits the accelerator's memory only where it is used better than usual.
    MayNotFit,
    /// A cost was asked for, but no price is known.
    NoPrice,
    /// Epochs or accuracy lie outside what the laws were fitted to.
    AccuracyExtrapolated,
    /// No number of epochs reaches the target accuracy.
    TargetNotReached,
    /// Failures come faster than training goes on.
    NeverEnds,
    /// The profile was doubtful to calibration.
    Profile,
    /// A published measurement fits no point.
    PublishedUnmatched,
}

/// A warning, with advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Its kind.
    pub code: WarningCode,
    /// The curve it belongs to, if the scenario has several; the variant, if it holds for all of its curves.
    pub series: Option<String>,
    /// What it means and what to do.
    pub message: String,
}

fn of_case(case: &Case) -> Vec<(WarningCode, String)> {
    let mut found = Vec::new();
    if case.compute.source == ComputeSource::Roofline {
        let message = "compute times are a roofline over datasheet rates, which real kernels do \
                       not reach: throughput is an upper bound; give compute.anchor a measured rate";
        found.push((WarningCode::RooflineBound, message.to_owned()));
    }
    if case.network.contention() == Contention::None && crowds_a_node(case) {
        let message = "several messages of a round leave one node at the same time, and without \
                       contention do not slow each other down: communication is a lower bound";
        found.push((WarningCode::CrowdedNode, message.to_owned()));
    }
    if case.arithmetic_in_fp32 {
        let message = "this accelerator does not multiply matrices faster in the training's \
                       precision than in fp32: narrow numbers save memory traffic only";
        found.push((WarningCode::ArithmeticInFp32, message.to_owned()));
    }
    found.extend(may_not_fit(case).map(|message| (WarningCode::MayNotFit, message)));
    if case.cost.is_some_and(|cost| cost.usd_per_accelerator_hour.is_none()) {
        let message = "the catalogue has no price of this accelerator: give cost.price";
        found.push((WarningCode::NoPrice, message.to_owned()));
    }
    if let Some(outcome) = &case.outcome {
        let extrapolated = outcome.extrapolated.iter();
        found.extend(extrapolated.map(|why| {
            let message =
                format!("{why}: the interval of accuracy and epochs holds only if the law does");
            (WarningCode::AccuracyExtrapolated, message)
        }));
        if outcome.epochs.is_none() {
            let message = format!(
                "global batch {} does not reach the target accuracy in any {EPOCHS_MAX} epochs: \
                 lower the target, make the batch smaller, or change the optimizer",
                case.global_batch
            );
            found.push((WarningCode::TargetNotReached, message));
        }
    }
    found.extend(case.profile_warnings.iter().map(|warning| {
        (WarningCode::Profile, format!("the profile's {}: {}", warning.about, warning.message))
    }));
    found
}

/// What would not even fit at best is refused before.
fn may_not_fit(case: &Case) -> Option<String> {
    let need = MemoryNeed::usual(&case.model, case.precision, case.optimizer);
    let (batch, memory) = (case.per_accelerator_batch, case.accelerator_memory);
    let gib = |bytes: Bytes| bytes.get() as f64 / f64::from(1 << 30);
    (need.at(batch) > memory).then(|| {
        format!(
            "{batch} images take {:.1} GiB in common frameworks, more than the {:.0} GiB of an \
             accelerator, into which {} go: see whether they fit before relying on this",
            gib(need.at(batch)),
            gib(memory),
            need.largest_batch(memory)
        )
    })
}

/// Whether messages of several ranks leave or reach a node at a time in any bucket's all-reduce;
/// hybrid has two schedules, one for the smallest and one for the largest bucket.
fn crowds_a_node(case: &Case) -> bool {
    let all = case.model.parameter_count() * case.wire_element_bytes;
    [1, all].into_iter().any(|bytes| {
        let shared = case.network.with_contention(Contention::Shared);
        let plan = case.all_reduce(Bytes::new(bytes));
        plan.is_ok_and(|plan| {
            plan.chosen.is_none() && plan.schedule.sharers(&shared).crowds_nodes()
        })
    })
}

/// Points of one variant whose batch is not the one the anchor was measured at.
fn extrapolated(curve: &[Case]) -> Option<String> {
    if let Some((low, high)) = curve.iter().find_map(|case| case.extrapolated_batches) {
        let outside = curve.iter().filter(|case| case.extrapolated_batches.is_some());
        let batches: BTreeSet<u64> = outside.map(|case| case.per_accelerator_batch).collect();
        let batches: Vec<String> = batches.iter().map(u64::to_string).collect();
        return Some(format!(
            "the profile was measured at batches {low} to {high}, and layer times are carried on in a \
             line to {}",
            batches.join(", ")
        ));
    }
    let anchor = curve.first()?.anchor?;
    let batches = curve.iter().map(|case| case.per_accelerator_batch);
    let others: Vec<u64> = batches.filter(|batch| *batch != anchor.batch).collect();
    let (low, high) = (others.iter().min()?, others.iter().max()?);
    let to = if low == high { format!("batch {low}") } else { format!("batches {low} to {high}") };
    Some(format!(
        "the anchor was measured at batch {}; the roofline carries it to {to}",
        anchor.batch
    ))
}

/// The warnings of all points, each once a curve.
pub(super) fn warnings(
    cases: &[Case],
    published: &[PublishedSpec],
    points: &[Point],
) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for curve in cases.chunk_by(|left, right| left.variant == right.variant) {
        let single = curve.iter().all(|case| case.series == curve[0].series);
        let series = if single { Some(&curve[0].series) } else { curve[0].variant.as_ref() };
        let series = series.filter(|name| !name.is_empty()).cloned();
        if let Some(message) = extrapolated(curve) {
            warnings.push(Warning { code: WarningCode::ExtrapolatedBatch, series, message });
        }
    }
    for curves in cases.chunk_by(|left, right| left.variant == right.variant) {
        let mut found: Vec<((WarningCode, String), Vec<&str>)> = Vec::new();
        for case in curves {
            for said in of_case(case) {
                match found.iter_mut().find(|(known, _)| *known == said) {
                    Some((_, series)) if series.contains(&case.series.as_str()) => {}
                    Some((_, series)) => series.push(&case.series),
                    None => found.push((said, vec![&case.series])),
                }
            }
        }
        let all: BTreeSet<&str> = curves.iter().map(|case| case.series.as_str()).collect();
        for ((code, message), series) in found {
            // What holds for every curve of a variant is said once.
            let whole = all.len() > 1 && series.len() == all.len();
            let of_whom: Vec<Option<String>> = if whole {
                vec![curves[0].variant.clone()]
            } else {
                series.iter().map(|name| (!name.is_empty()).then(|| (*name).to_owned())).collect()
            };
            for series in of_whom {
                warnings.push(Warning { code, series, message: message.clone() });
            }
        }
    }
    for point in points.iter().filter(|point| point.goodput_percent == Some(0.0)) {
        let series = (!point.series.is_empty()).then(|| point.series.clone());
        let message = format!(
            "a run on {} nodes would not end: failures come faster than it restarts and reaches the \
             next checkpoint; look at failures",
            point.nodes
        );
        warnings.push(Warning { code: WarningCode::NeverEnds, series, message });
    }
    for spec in published {
        if !points.iter().any(|point| compare::fits(spec, point)) {
            let message = format!(
                "nothing is simulated where a published point lies ({} accelerators, {})",
                spec.accelerators, spec.source
            );
            let code = WarningCode::PublishedUnmatched;
            warnings.push(Warning { code, series: spec.variant.clone(), message });
        }
    }
    warnings
}

//! What a reader of a forecast should keep in mind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, compare};
use crate::compute::ComputeSource;
use crate::scenario::Case;
use crate::scenario::spec::PublishedSpec;

/// The kind of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WarningCode {
    /// Compute times are a bound, not a measurement.
    RooflineBound,
    /// The batch is not the one the anchor was measured at.
    ExtrapolatedBatch,
    /// Masters of several groups send from one node at the same time.
    MastersShareNics,
    /// A cost was asked for, but no price is known.
    NoPrice,
    /// A published measurement fits no point.
    PublishedUnmatched,
}

/// A warning, with advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Its kind.
    pub code: WarningCode,
    /// The curve it belongs to, if the scenario has several.
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
    if case.masters_share_nics {
        let message = "groups are smaller than a node, so several masters send from one node at \
                       the same time; this network does not slow them down: communication is a \
                       lower bound";
        found.push((WarningCode::MastersShareNics, message.to_owned()));
    }
    if case.cost.is_some_and(|cost| cost.usd_per_accelerator_hour.is_none()) {
        let message = "the catalogue has no price of this accelerator: give cost.price";
        found.push((WarningCode::NoPrice, message.to_owned()));
    }
    found
}

/// Points of one curve whose batch is not the one the anchor was measured at.
fn extrapolated(curve: &[Case]) -> Option<String> {
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
    for curve in cases.chunk_by(|left, right| left.series == right.series) {
        let series = (!curve[0].series.is_empty()).then(|| curve[0].series.clone());
        if let Some(message) = extrapolated(curve) {
            warnings.push(Warning { code: WarningCode::ExtrapolatedBatch, series, message });
        }
    }
    for case in cases {
        let series = (!case.series.is_empty()).then(|| case.series.clone());
        for (code, message) in of_case(case) {
            let known = warnings.iter().any(|warning| {
                warning.code == code && warning.series == series && warning.message == message
            });
            if !known {
                warnings.push(Warning { code, series: series.clone(), message });
            }
        }
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

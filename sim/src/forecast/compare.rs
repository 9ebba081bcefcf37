//! Published measurements held against the forecast, error by error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Point;
use crate::scenario::spec::PublishedSpec;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Throughput.
    ImagesPerS,
    /// Minutes from start to finish.
    TimeToTrainMin,
    /// Throughput over that of as many single accelerators.
    ScalingEfficiency,
    /// Milliseconds of a step.
    StepMs,
    /// Accuracy at the end, in percent.
    Top1Percent,
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::ImagesPerS => "images/s",
            Self::TimeToTrainMin => "time to train",
            Self::ScalingEfficiency => "efficiency",
            Self::StepMs => "step ms",
            Self::Top1Percent => "top-1",
        })
    }
}

/// A published measurement and what the forecast says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedPoint {
    /// The accelerators it was measured on.
    pub accelerators: u32,
    /// The curve of the forecast it is held against; none where no point fits.
    pub series: Option<String>,
    /// What was measured.
    pub quantity: Quantity,
    /// What was published.
    pub published: f64,
    /// What is forecast.
    pub predicted: Option<f64>,
    /// 100 · (predicted / published − 1).
    pub error_percent: Option<f64>,
    /// Where it was published.
    pub source: String,
}

impl Quantity {
    fn of(self, point: &Point) -> Option<f64> {
        match self {
            Self::ImagesPerS => Some(point.images_per_s),
            Self::TimeToTrainMin => point.time_to_train_min,
            Self::ScalingEfficiency => Some(point.scaling_efficiency),
            Self::StepMs => Some(point.step_ms),
            Self::Top1Percent => point.top1_percent,
        }
    }

    fn given(published: &PublishedSpec) -> Option<(Self, f64)> {
        let rate = published.images_per_s.map(|rate| (Self::ImagesPerS, rate.get()));
        let minutes =
            published.time_to_train.map(|time| (Self::TimeToTrainMin, time.as_seconds() / 60.0));
        let efficiency = published
            .scaling_efficiency
            .map(|efficiency| (Self::ScalingEfficiency, efficiency.get()));
        let step = published.step_time.map(|step| (Self::StepMs, step.as_ms()));
        let top1 = published.top1.map(|top1| (Self::Top1Percent, top1.percent()));
        rate.or(minutes).or(efficiency).or(step).or(top1)
    }
}

/// Whether `published` was measured where `point` lies.
pub(super) fn fits(published: &PublishedSpec, point: &Point) -> bool {
    published.accelerators == point.accelerators
        && published.variant.as_ref().is_none_or(|name| point.variant.as_ref() == Some(name))
        && published.per_accelerator_batch.is_none_or(|batch| batch == point.per_accelerator_batch)
}

/// What the forecast says of a published measurement at `point`.
fn predicted(
    spec: &PublishedSpec,
    quantity: Quantity,
    point: &Point,
    points: &[Point],
) -> Option<f64> {
    let Some(base) = spec.relative_to else { return quantity.of(point) };
    let base =
        points.iter().find(|other| other.series == point.series && other.accelerators == base)?;
    Some(point.scaling_efficiency / base.scaling_efficiency)
}

/// Each published measurement against every point it fits; once without a forecast if it fits none.
pub(super) fn compare(published: &[PublishedSpec], points: &[Point]) -> Vec<PublishedPoint> {
    let mut rows = Vec::new();
    for spec in published {
        let Some((quantity, value)) = Quantity::given(spec) else { continue };
        let row = |point: Option<&Point>| {
            let predicted = point.and_then(|point| predicted(spec, quantity, point, points));
            PublishedPoint {
                accelerators: spec.accelerators,
                series: point.map(|point| point.series.clone()),
                quantity,
                published: value,
                predicted,
                error_percent: predicted.map(|predicted| 100.0 * (predicted / value - 1.0)),
                source: spec.source.clone(),
            }
        };
        let fitting: Vec<&Point> = points.iter().filter(|point| fits(spec, point)).collect();
        if fitting.is_empty() {
            rows.push(row(None));
        }
        rows.extend(fitting.into_iter().map(|point| row(Some(point))));
    }
    rows
}

//! The curves of forecasts: along accelerators, or along the batch where only it differs.

use std::collections::BTreeSet;

use foretrain_sim::forecast::{Forecast, Point, PublishedPoint, Quantity};
use plotters::style::RGBColor;

use super::marks::{SHAPES, Shape};
use super::panels::{Band, Curve, Mark, Sign, Stroke};
use super::style;

/// Longer names of who published something are cut.
const NAME_LETTERS: usize = 36;

/// What runs along a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    Accelerators,
    /// Where all points have as many accelerators.
    GlobalBatch,
}

impl Along {
    /// What runs along the curves of `forecasts`.
    pub(super) fn of(forecasts: &[Forecast]) -> Self {
        let points = || forecasts.iter().flat_map(|forecast| &forecast.points);
        let counts: BTreeSet<u32> = points().map(|point| point.accelerators).collect();
        let batches: BTreeSet<u64> = points().map(|point| point.global_batch).collect();
        if counts.len() == 1 && batches.len() > 1 { Self::GlobalBatch } else { Self::Accelerators }
    }

    pub(super) fn value(self, point: &Point) -> f64 {
        match self {
            Self::Accelerators => f64::from(point.accelerators),
            Self::GlobalBatch => point.global_batch as f64,
        }
    }

    /// What a point's curve is called.
    fn series(self, point: &Point) -> String {
        let batches = [
            format!("batch {}", point.global_batch),
            format!("batch {} each", point.per_accelerator_batch),
        ];
        let parts = point.series.split(", ");
        let other = |part: &&str| self == Self::Accelerators || !batches.iter().any(|b| b == part);
        parts.filter(other).collect::<Vec<_>>().join(", ")
    }
}

/// One curve of one forecast.
pub(super) struct Series<'a> {
    pub(super) name: String,
    pub(super) color: RGBColor,
    pub(super) points: Vec<&'a Point>,
    along: Along,
    mark_color: RGBColor,
    /// Published rows, the points they are held against, and how they are drawn.
    published: Vec<(&'a PublishedPoint, &'a Point, Option<RGBColor>, Shape)>,
}

impl Series<'_> {
    pub(super) fn curve(&self, y: impl Fn(&Point) -> Option<f64>) -> Curve {
        let value = |point: &&Point| Some((self.along.value(point), y(point)?));
        let points = self.points.iter().filter_map(value).collect();
        Curve { color: self.color, stroke: Stroke::Dotted, points }
    }

    /// An interval along the curve; none where fewer than two points have one.
    pub(super) fn band(&self, ends: impl Fn(&Point) -> Option<(f64, f64)>) -> Option<Band> {
        let value =
            |point: &&Point| ends(point).map(|(low, high)| (self.along.value(point), low, high));
        let points: Vec<_> = self.points.iter().filter_map(value).collect();
        (points.len() > 1).then_some(Band { color: self.color, points })
    }

    /// Published points, in the curve's colour where they belong to it alone.
    pub(super) fn marks(&self, quantity: Quantity, factor: f64) -> Vec<Mark> {
        self.published
            .iter()
            .filter(|(row, ..)| row.quantity == quantity)
            .map(|&(row, point, color, shape)| Mark {
                color: color.unwrap_or(self.mark_color),
                shape,
                x: self.along.value(point),
                y: factor * row.published * scale(row, point),
            })
            .collect()
    }
}

/// An efficiency published relative to several accelerators is drawn relative to one, by the
/// forecast's own ratio of the two.
fn scale(row: &PublishedPoint, point: &Point) -> f64 {
    match (row.quantity, row.predicted) {
        (Quantity::ScalingEfficiency, Some(predicted)) if predicted > 0.0 => {
            point.scaling_efficiency / predicted
        }
        _ => 1.0,
    }
}

/// Whether a published row stands beside several curves of its forecast.
fn is_shared(row: &PublishedPoint, forecast: &Forecast) -> bool {
    let same = |other: &&PublishedPoint| {
        other.accelerators == row.accelerators
            && other.quantity == row.quantity
            && other.published == row.published
            && other.source == row.source
    };
    forecast.published.iter().filter(same).count() > 1
}

pub(super) fn series(forecasts: &[Forecast], along: Along) -> Vec<Series<'_>> {
    let mut all: Vec<Series<'_>> = Vec::new();
    let authors = authors(forecasts);
    for forecast in forecasts {
        let first = all.len();
        for point in &forecast.points {
            let series = along.series(point);
            let name = match (forecasts.len(), series.is_empty()) {
                (1, true) => "forecast".to_owned(),
                (1, false) => series,
                (_, true) => forecast.foretrain.scenario.clone(),
                (_, false) => format!("{}: {series}", forecast.foretrain.scenario),
            };
            let rows = forecast.published.iter().filter(|row| {
                row.series.as_ref() == Some(&point.series) && row.accelerators == point.accelerators
            });
            let published = rows.map(|row| {
                let color = is_shared(row, forecast).then_some(style::INK);
                let shape = match along {
                    Along::Accelerators => Shape::Diamond,
                    Along::GlobalBatch => shape(&authors, row),
                };
                (row, point, color, shape)
            });
            let published: Vec<_> = published.collect();
            // Points of one curve follow each other, but for batches.
            match all[first..].iter_mut().find(|one| one.name == name) {
                Some(one) => {
                    one.points.push(point);
                    one.published.extend(published);
                }
                None => {
                    let color = style::curve(all.len());
                    let points = vec![point];
                    all.push(Series { name, color, mark_color: color, points, along, published });
                }
            }
        }
    }
    for one in &mut all {
        one.points.sort_by(|a, b| along.value(a).total_cmp(&along.value(b)));
    }
    if let [only] = all.as_mut_slice() {
        only.mark_color = style::PUBLISHED;
    }
    all
}

/// Who published what is drawn: the source up to its first comma, each once.
fn authors(forecasts: &[Forecast]) -> Vec<String> {
    let mut authors: Vec<String> = Vec::new();
    let drawn = |row: &&PublishedPoint| row.series.is_some();
    for row in forecasts.iter().flat_map(|forecast| &forecast.published).filter(drawn) {
        let author = author(row);
        if !authors.contains(&author) {
            authors.push(author);
        }
    }
    authors
}

fn author(row: &PublishedPoint) -> String {
    let name = row.source.split([',', ';', ':']).next().unwrap_or_default().trim();
    match name.char_indices().nth(NAME_LETTERS) {
        Some((at, _)) => format!("{}…", name[..at].trim_end()),
        None => name.to_owned(),
    }
}

fn shape(authors: &[String], row: &PublishedPoint) -> Shape {
    // Circles are on the curves themselves.
    let shapes = || SHAPES.iter().skip(1).copied();
    let index = authors.iter().position(|known| *known == author(row)).unwrap_or_default();
    shapes().nth(index % shapes().count()).unwrap_or(Shape::Diamond)
}

/// What curves and marks mean, without what belongs to some panels only.
pub(super) fn legend(series: &[Series<'_>], along: Along) -> Vec<(Sign, RGBColor, String)> {
    let mut legend: Vec<_> =
        series.iter().map(|one| (Sign::Line, one.color, one.name.clone())).collect();
    legend.push((Sign::Dashes, style::IDEAL, "perfect scaling".to_owned()));
    let color = if series.len() == 1 { style::PUBLISHED } else { style::INK };
    match along {
        Along::Accelerators if series.iter().any(|one| !one.published.is_empty()) => {
            legend.push((Sign::Mark(Shape::Diamond), color, "published".to_owned()));
        }
        Along::Accelerators => {}
        Along::GlobalBatch => {
            let mut seen: Vec<String> = Vec::new();
            for (row, _, _, shape) in series.iter().flat_map(|one| &one.published) {
                let author = author(row);
                if !seen.contains(&author) {
                    legend.push((Sign::Mark(*shape), color, format!("published, {author}")));
                    seen.push(author);
                }
            }
        }
    }
    legend
}

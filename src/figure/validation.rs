//! The figure of published all-reduces beside their predictions: bus bandwidth, a panel a set.

use std::collections::BTreeSet;

use plotters::style::RGBColor;

use super::axis::{Axis, Style};
use super::marks::Shape;
use super::panels::{Curve, Figure, Mark, Panel, Sign, Stroke};
use super::style;

/// A set of published all-reduces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SetCurve {
    pub(crate) name: String,
    pub(crate) mean_abs_error_percent: f64,
    pub(crate) points: Vec<Point>,
}

/// One all-reduce.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) message_bytes: u64,
    pub(crate) accelerators: u32,
    pub(crate) published_us: f64,
    pub(crate) predicted_us: f64,
    /// What the prediction says ran.
    pub(crate) predicted_by: String,
}

impl Point {
    /// GB/s that each link carries: the message over the time, times 2(n−1)/n.
    fn bus(&self, time_us: f64) -> f64 {
        let ranks = f64::from(self.accelerators);
        self.message_bytes as f64 / time_us / 1000.0 * 2.0 * (ranks - 1.0) / ranks
    }
}

/// What a panel is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Size,
    Accelerators,
}

impl SetCurve {
    /// Sizes where there are a few, else numbers of accelerators; none where there is one point.
    fn against(&self) -> Option<Against> {
        let sizes: BTreeSet<u64> = self.points.iter().map(|point| point.message_bytes).collect();
        let counts: BTreeSet<u32> = self.points.iter().map(|point| point.accelerators).collect();
        match (sizes.len(), counts.len()) {
            (3.., 1) => Some(Against::Size),
            (_, 2..) => Some(Against::Accelerators),
            (2, _) => Some(Against::Size),
            _ => None,
        }
    }
}

/// The figure of some sets.
pub(super) fn figure(sets: &[SetCurve]) -> Figure {
    let mut kinds: Vec<String> = Vec::new();
    for point in sets.iter().flat_map(|set| &set.points) {
        if !kinds.contains(&point.predicted_by) {
            kinds.push(point.predicted_by.clone());
        }
    }
    let drawn = sets.iter().filter_map(|set| Some((set, set.against()?)));
    let panels: Vec<Panel> = drawn.map(|(set, against)| panel(set, against, &kinds)).collect();
    let single: Vec<&str> =
        sets.iter().filter(|set| set.against().is_none()).map(|set| set.name.as_str()).collect();
    let mut subtitle = format!("foretrain {}, no scenario, no profile", env!("CARGO_PKG_VERSION"));
    if !single.is_empty() {
        subtitle += &format!("; single points are not drawn: {}", single.join(", "));
    }
    let mut legend: Vec<(Sign, RGBColor, String)> = kinds
        .iter()
        .map(|kind| (Sign::Line, color(&kinds, kind), format!("predicted: {kind}")))
        .collect();
    legend.push((Sign::Mark(Shape::Diamond), style::INK, "published".to_owned()));
    Figure {
        title: "Bus bandwidth of all-reduces, published and predicted".to_owned(),
        description: subtitle.clone(),
        subtitle,
        legend,
        panels,
    }
}

fn color(kinds: &[String], kind: &str) -> RGBColor {
    style::curve(kinds.iter().position(|known| known == kind).unwrap_or_default())
}

fn panel(set: &SetCurve, against: Against, kinds: &[String]) -> Panel {
    let x = |point: &Point| match against {
        Against::Size => point.message_bytes as f64,
        Against::Accelerators => f64::from(point.accelerators),
    };
    let mut points: Vec<&Point> = set.points.iter().collect();
    points.sort_by(|left, right| x(left).total_cmp(&x(right)));
    let curves = match against {
        Against::Size => by_size(&points, x, kinds),
        Against::Accelerators => by_accelerators(&points, x, kinds),
    };
    let mark = |point: &&Point| Mark::diamond(style::INK, x(point), point.bus(point.published_us));
    let marks: Vec<Mark> = points.iter().map(mark).collect();
    let ends = curves.iter().flat_map(|curve| curve.points.iter().map(|at| at.1));
    let heights: Vec<f64> = ends.chain(marks.iter().map(|mark| mark.y)).collect();
    let (x_axis, y_axis) = match against {
        Against::Size => (
            Axis::sizes("message size", points.iter().map(|point| x(point))),
            Axis::log("GB/s", Style::Plain, heights.into_iter()),
        ),
        Against::Accelerators => (
            Axis::counts("accelerators", points.iter().map(|point| x(point))),
            Axis::from_zero("GB/s", Style::Plain, heights.into_iter().fold(0.0, f64::max) * 1.1),
        ),
    };
    let title = format!("{}: mean error {:.0} %", set.name, set.mean_abs_error_percent);
    Panel { marks, ..Panel::new(&title, x_axis, y_axis, curves) }
}

/// One line in pieces: each goes on to the first point of the next.
fn by_size(points: &[&Point], x: impl Fn(&Point) -> f64, kinds: &[String]) -> Vec<Curve> {
    let at = |point: &Point| (x(point), point.bus(point.predicted_us));
    let mut curves: Vec<Curve> = Vec::new();
    let mut next: Option<(f64, f64)> = None;
    let pieces: Vec<&[&Point]> =
        points.chunk_by(|left, right| left.predicted_by == right.predicted_by).collect();
    // From the end, so that each piece knows where the next begins.
    for piece in pieces.iter().rev() {
        let line = piece.iter().map(|point| at(point)).chain(next).collect();
        let color = color(kinds, &piece[0].predicted_by);
        curves.push(Curve { color, stroke: Stroke::Dotted, points: line });
        next = Some(at(piece[0]));
    }
    curves.reverse();
    curves
}

/// A line for each kind of prediction.
fn by_accelerators(points: &[&Point], x: impl Fn(&Point) -> f64, kinds: &[String]) -> Vec<Curve> {
    let line = |kind: &String| {
        let of = points.iter().filter(|point| point.predicted_by == *kind);
        let points: Vec<_> = of.map(|point| (x(point), point.bus(point.predicted_us))).collect();
        Curve { color: color(kinds, kind), stroke: Stroke::Dotted, points }
    };
    kinds.iter().map(line).filter(|curve| !curve.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(points: &[(u64, u32, f64, &str)]) -> SetCurve {
        let point =
            |&(message_bytes, accelerators, predicted_us, by): &(u64, u32, f64, &str)| Point {
                message_bytes,
                accelerators,
                published_us: 1.0,
                predicted_us,
                predicted_by: by.to_owned(),
            };
        let points = points.iter().map(point).collect();
        SetCurve { name: "set".to_owned(), mean_abs_error_percent: 1.0, points }
    }

    #[test]
    fn a_line_changes_its_colour_where_the_prediction_changes() {
        // Bus bandwidth of 2 ranks is bytes over time: 1000 B / 1 us = 1 GB/s.
        let sizes = set(&[
            (4000, 2, 1.0, "ring simple"),
            (1000, 2, 1.0, "ring ll"),
            (2000, 2, 1.0, "ring ll"),
        ]);
        let figure = figure(&[sizes]);
        let curves = &figure.panels[0].curves;
        assert_eq!(curves[0].points, [(1000.0, 1.0), (2000.0, 2.0), (4000.0, 4.0)]);
        assert_eq!(curves[1].points, [(4000.0, 4.0)]);
        assert_ne!(curves[0].color, curves[1].color);
        assert_eq!(figure.panels[0].marks.len(), 3);
        assert_eq!(figure.legend.len(), 3);
    }

    #[test]
    fn sets_of_one_size_are_drawn_against_accelerators_and_single_points_not() {
        let counts = set(&[(1000, 4, 1.0, "ring ll"), (1000, 2, 1.0, "ring ll")]);
        let single = set(&[(1000, 2, 1.0, "ring ll")]);
        let figure = figure(&[counts, single]);
        assert_eq!(figure.panels.len(), 1);
        assert_eq!(figure.panels[0].x.title, "accelerators");
        assert_eq!(figure.panels[0].curves[0].points, [(2.0, 1.0), (4.0, 1.5)]);
        assert!(figure.subtitle.ends_with("single points are not drawn: set"));
    }
}

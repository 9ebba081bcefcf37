//! The figure of what was measured beside what the simulator says: steps, and all-reduces by size.

use foretrain_calibrate::verify::{Comparison, Kind, Verdict};

use super::axis::{Axis, Style};
use super::panels::{Curve, Figure, Panel, Sign};
use super::style;

/// The figure of a verdict; `made` says what made it.
pub(super) fn figure(verdict: &Verdict, made: &str) -> Figure {
    let of = |kind: Kind| -> Vec<&Comparison> {
        verdict.points.iter().filter(|point| point.kind == kind).collect()
    };
    let mut panels = Vec::new();
    for kind in [Kind::Step, Kind::AllReduce] {
        let points = of(kind);
        let mut groups: Vec<(String, Vec<&Comparison>)> = Vec::new();
        for point in points {
            let name = match kind {
                Kind::Step => format!("steps on {} ranks", point.ranks),
                Kind::AllReduce => format!("{} on {} ranks", point.all_reduce, point.ranks),
            };
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, members)) => members.push(point),
                None => groups.push((name, vec![point])),
            }
        }
        panels.extend(groups.iter().map(|(name, members)| match kind {
            Kind::Step => steps(name, members),
            Kind::AllReduce => all_reduces(name, members),
        }));
    }
    Figure {
        title: "Measured and simulated".to_owned(),
        subtitle: made.to_owned(),
        legend: vec![
            (Sign::Line, style::COMPUTE, "simulated, by size".to_owned()),
            (Sign::Dashes, style::IDEAL, "simulated as measured".to_owned()),
            (Sign::Mark, style::PUBLISHED, "measured".to_owned()),
        ],
        panels,
    }
}

fn mean_error(points: &[&Comparison]) -> f64 {
    points.iter().map(|point| point.error_percent.abs()).sum::<f64>() / points.len() as f64
}

/// Every step a mark, what was measured across and what is simulated up; true ones lie on the line.
fn steps(name: &str, points: &[&Comparison]) -> Panel {
    let marks: Vec<(f64, f64)> =
        points.iter().map(|point| (point.measured_us / 1e3, point.predicted_us / 1e3)).collect();
    let values = || marks.iter().flat_map(|mark| [mark.0, mark.1]);
    let axis = |title: &str| Axis::log(title, Style::Plain, values());
    let (low, high) =
        values().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    Panel {
        title: format!("{name}: mean error {:.1} %", mean_error(points)),
        x: axis("measured step, ms"),
        y: axis("simulated step, ms"),
        curves: vec![Curve {
            color: style::IDEAL,
            dashed: true,
            points: vec![(low / 1.2, low / 1.2), (high * 1.2, high * 1.2)],
        }],
        bars: Vec::new(),
        marks: marks.into_iter().map(|(x, y)| (style::PUBLISHED, x, y)).collect(),
        key: Vec::new(),
    }
}

fn all_reduces(name: &str, points: &[&Comparison]) -> Panel {
    let size = |point: &Comparison| point.message_bytes.unwrap_or(1) as f64;
    let line = points.iter().map(|point| (size(point), point.predicted_us)).collect();
    let heights: Vec<f64> =
        points.iter().flat_map(|point| [point.measured_us, point.predicted_us]).collect();
    Panel {
        title: format!("{name}: mean error {:.1} %", mean_error(points)),
        x: Axis::sizes("message size", points.iter().map(|point| size(point))),
        y: Axis::log("us", Style::Plain, heights.into_iter()),
        curves: vec![Curve { color: style::COMPUTE, dashed: false, points: line }],
        bars: Vec::new(),
        marks: points
            .iter()
            .map(|point| (style::PUBLISHED, size(point), point.measured_us))
            .collect(),
        key: Vec::new(),
    }
}

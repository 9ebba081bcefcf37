//! The figure of what was measured beside what the simulator says: steps, and all-reduces by size.

use foretrain_calibrate::verify::{Comparison, Kind, Verdict};
use plotters::style::RGBColor;

use super::axis::{Axis, Style};
use super::marks::Shape;
use super::panels::{Curve, Figure, Mark, Panel, Sign, Stroke};
use super::style;

/// Steps between the two outer lines are within this of what was measured.
const BAND: f64 = 0.05;

/// Points of one panel, with its title.
type Group<'a> = (String, Vec<&'a Comparison>);

/// The figure of a verdict; `made` says what made it.
pub(super) fn figure(verdict: &Verdict, made: &str) -> Figure {
    let step_groups =
        groups(verdict, Kind::Step, |point| format!("steps on {} ranks", point.ranks));
    let sum_groups = groups(verdict, Kind::AllReduce, |point| {
        format!("{} on {} ranks", point.all_reduce, point.ranks)
    });
    let ways = ways(&step_groups);
    let mut legend: Vec<(Sign, RGBColor, String)> = ways
        .iter()
        .map(|way| (Sign::Mark(Shape::Diamond), color(&ways, way), format!("steps, {way}")))
        .collect();
    if !step_groups.is_empty() {
        let about = format!("simulated as measured, and {:.0} % off", 100.0 * BAND);
        legend.push((Sign::Dashes, style::IDEAL, about));
    }
    if !sum_groups.is_empty() {
        legend.push((Sign::Line, style::COMPUTE, "all-reduce, simulated".to_owned()));
        legend.push((
            Sign::Mark(Shape::Diamond),
            style::PUBLISHED,
            "all-reduce, measured".to_owned(),
        ));
    }
    let steps = step_groups.iter().map(|group| steps(group, &ways));
    let panels = steps.chain(sum_groups.iter().map(all_reduces)).collect();
    Figure {
        title: "Measured and simulated".to_owned(),
        subtitle: made.to_owned(),
        description: made.to_owned(),
        legend,
        panels,
    }
}

fn groups(verdict: &Verdict, kind: Kind, name: impl Fn(&Comparison) -> String) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for point in verdict.points.iter().filter(|point| point.kind == kind) {
        let name = name(point);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(point),
            None => groups.push((name, vec![point])),
        }
    }
    groups
}

/// The all-reduces of all steps, each once.
fn ways<'a>(groups: &[Group<'a>]) -> Vec<&'a str> {
    let mut ways: Vec<&str> = Vec::new();
    for point in groups.iter().flat_map(|(_, points)| points) {
        if !ways.contains(&point.all_reduce.as_str()) {
            ways.push(&point.all_reduce);
        }
    }
    ways
}

fn color(ways: &[&str], way: &str) -> RGBColor {
    style::curve(ways.iter().position(|known| *known == way).unwrap_or_default())
}

fn titled((name, points): &Group<'_>) -> String {
    let sum: f64 = points.iter().map(|point| point.error_percent.abs()).sum();
    format!("{name}: mean error {:.1} %", sum / points.len() as f64)
}

/// Every step a mark, what was measured across and what is simulated up.
fn steps(group: &Group<'_>, ways: &[&str]) -> Panel {
    let points = &group.1;
    let marks: Vec<Mark> = points
        .iter()
        .map(|point| {
            let color = color(ways, &point.all_reduce);
            Mark::diamond(color, point.measured_us / 1e3, point.predicted_us / 1e3)
        })
        .collect();
    let values = || marks.iter().flat_map(|mark| [mark.x, mark.y]);
    let axis = |title: &str| Axis::log(title, Style::Plain, values());
    let (low, high) =
        values().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let line = |factor: f64| Curve {
        color: style::IDEAL,
        stroke: Stroke::Dashed,
        points: vec![(low / 1.15, factor * low / 1.15), (high * 1.15, factor * high * 1.15)],
    };
    let curves = vec![line(1.0 - BAND), line(1.0), line(1.0 + BAND)];
    let (x, y) = (axis("measured step, ms"), axis("simulated step, ms"));
    Panel { marks, ..Panel::new(&titled(group), x, y, curves) }
}

fn all_reduces(group: &Group<'_>) -> Panel {
    let points = &group.1;
    let size = |point: &Comparison| point.message_bytes.unwrap_or(1) as f64;
    let line = points.iter().map(|point| (size(point), point.predicted_us)).collect();
    let heights: Vec<f64> =
        points.iter().flat_map(|point| [point.measured_us, point.predicted_us]).collect();
    let curve = Curve { color: style::COMPUTE, stroke: Stroke::Dotted, points: line };
    let mark =
        |point: &&Comparison| Mark::diamond(style::PUBLISHED, size(point), point.measured_us);
    let x = Axis::sizes("message size", points.iter().map(|point| size(point)));
    let y = Axis::log("us", Style::Plain, heights.into_iter());
    let marks = points.iter().map(mark).collect();
    Panel { marks, ..Panel::new(&titled(group), x, y, vec![curve]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(kind: Kind, ranks: u32, way: &str, measured_us: f64) -> Comparison {
        Comparison {
            kind,
            ranks,
            ranks_per_node: 1,
            all_reduce: way.to_owned(),
            fusion: None,
            overlap: None,
            per_rank_batch: None,
            message_bytes: (kind == Kind::AllReduce).then_some(1024),
            measured_us,
            measured_low_us: measured_us,
            measured_high_us: measured_us,
            predicted_us: 1.1 * measured_us,
            error_percent: 10.0,
        }
    }

    #[test]
    fn a_panel_for_every_number_of_ranks_and_every_all_reduce() {
        let points = vec![
            point(Kind::Step, 4, "ring", 1e5),
            point(Kind::Step, 4, "hierarchical 2", 2e5),
            point(Kind::Step, 8, "ring", 3e5),
            point(Kind::AllReduce, 4, "ring", 100.0),
        ];
        let verdict = Verdict { points, errors: Vec::new(), not_compared: Vec::new() };
        let figure = figure(&verdict, "made by a test");
        let titles: Vec<&str> = figure.panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(
            titles,
            [
                "steps on 4 ranks: mean error 10.0 %",
                "steps on 8 ranks: mean error 10.0 %",
                "ring on 4 ranks: mean error 10.0 %",
            ]
        );
        let marks = &figure.panels[0].marks;
        assert_eq!((marks[0].x, marks[0].y.round()), (100.0, 110.0));
        assert!(
            marks[0].color != marks[1].color && marks[0].color == figure.panels[1].marks[0].color
        );
        assert_eq!(figure.legend.len(), 2 + 1 + 2);
    }
}

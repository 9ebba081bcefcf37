//! What a figure shows, as data: panels with axes, curves, bars, bands, marks and notes.

use foretrain_sim::collective::Timing;
use plotters::style::RGBColor;

use super::axis::{Axis, Style};
use super::marks::Shape;
use super::style;

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    /// A line with a dot at each point.
    Dotted,
    /// A line alone.
    Plain,
    /// Dashes, for what the curves are held against.
    Dashed,
    /// Thin dashes, for what one curve is held against.
    Thin,
    /// A thin line from one end of an interval to the other.
    Bar,
    /// A broad pale line below the others, for what is best of them.
    Halo,
}

/// A line through points (values, not coordinates).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    pub(super) color: RGBColor,
    pub(super) stroke: Stroke,
    pub(super) points: Vec<(f64, f64)>,
}

/// A bar made of pieces, from the bottom up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) at: f64,
    pub(super) pieces: Vec<(RGBColor, f64)>,
}

/// An interval along a curve: where it is, its lower and its upper end. What lies beyond an axis is
/// drawn up to its end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Band {
    pub(super) color: RGBColor,
    pub(super) points: Vec<(f64, f64, f64)>,
}

/// A published point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mark {
    pub(super) color: RGBColor,
    pub(super) shape: Shape,
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Mark {
    pub(super) const fn diamond(color: RGBColor, x: f64, y: f64) -> Self {
        Self { color, shape: Shape::Diamond, x, y }
    }
}

/// A line across a panel, with its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Limit {
    pub(super) at: Place,
    pub(super) name: String,
}

/// Where a limit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    X(f64),
    Y(f64),
}

/// Words beside a point. Those of the best come first and are always there, and a ring is around it;
/// others are left out where they would cover something.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Note {
    pub(super) at: (f64, f64),
    pub(super) color: RGBColor,
    pub(super) lines: Vec<String>,
    pub(super) best: bool,
}

/// One diagram.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Panel {
    pub(super) title: String,
    /// As wide as the figure.
    pub(super) wide: bool,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) curves: Vec<Curve>,
    pub(super) bars: Vec<Bar>,
    pub(super) bands: Vec<Band>,
    /// Pale points that no curve goes through.
    pub(super) dots: Vec<(RGBColor, f64, f64)>,
    pub(super) marks: Vec<Mark>,
    pub(super) limits: Vec<Limit>,
    pub(super) notes: Vec<Note>,
    /// What colours mean in this panel alone.
    pub(super) key: Vec<(RGBColor, String)>,
}

impl Panel {
    /// A panel of curves.
    pub(super) fn new(title: &str, x: Axis, y: Axis, curves: Vec<Curve>) -> Self {
        Self {
            title: title.to_owned(),
            wide: false,
            x,
            y,
            curves,
            bars: Vec::new(),
            bands: Vec::new(),
            dots: Vec::new(),
            marks: Vec::new(),
            limits: Vec::new(),
            notes: Vec::new(),
            key: Vec::new(),
        }
    }
}

/// How an entry of the legend is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Line,
    Dashes,
    Mark(Shape),
    /// A pale point.
    Dot,
    Halo,
    Ring,
    Band,
}

/// A whole figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) title: String,
    /// Lines are broken where they are too long.
    pub(super) subtitle: String,
    /// For readers who cannot see it.
    pub(super) description: String,
    pub(super) legend: Vec<(Sign, RGBColor, String)>,
    pub(super) panels: Vec<Panel>,
}

/// The heights of curves and marks.
pub(super) fn values<'a>(curves: &'a [Curve], marks: &'a [Mark]) -> impl Iterator<Item = f64> {
    let points = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
    points.chain(marks.iter().map(|mark| mark.y))
}

/// The figure of some timings: time and bus bandwidth against size, a curve for each algorithm and
/// number of ranks.
pub(super) fn timings(rows: &[Timing], title: &str) -> Figure {
    let curves: Vec<&[Timing]> = rows
        .chunk_by(|left, right| left.algorithm == right.algorithm && left.ranks == right.ranks)
        .collect();
    let draw = |of: fn(&Timing) -> f64| -> Vec<Curve> {
        let points =
            |rows: &[Timing]| rows.iter().map(|r| (r.message_bytes as f64, of(r))).collect();
        let numbered = curves.iter().enumerate();
        numbered
            .map(|(index, rows)| Curve {
                color: style::curve(index),
                stroke: Stroke::Dotted,
                points: points(rows),
            })
            .collect()
    };
    let sizes = || Axis::sizes("message size", rows.iter().map(|row| row.message_bytes as f64));
    let (time, bandwidth) = (draw(|row| row.time_us), draw(|row| row.busbw_gbyte_per_s));
    let time_axis = Axis::log("us", Style::Plain, values(&time, &[]));
    let high = values(&bandwidth, &[]).fold(0.0, f64::max) * 1.1;
    let bandwidth_axis = Axis::from_zero("GB/s", Style::Plain, high);
    let name = |rows: &[Timing]| format!("{}, {} ranks", rows[0].algorithm, rows[0].ranks);
    let numbered = curves.iter().enumerate();
    let subtitle = format!("foretrain {}, no scenario, no profile", env!("CARGO_PKG_VERSION"));
    Figure {
        title: title.to_owned(),
        description: subtitle.clone(),
        subtitle,
        legend: numbered.map(|(i, rows)| (Sign::Line, style::curve(i), name(rows))).collect(),
        panels: vec![
            Panel::new("Time of one all-reduce", sizes(), time_axis, time),
            Panel::new("Bus bandwidth", sizes(), bandwidth_axis, bandwidth),
        ],
    }
}

//! The figure of published training runs beside their predictions: one against the other, and the
//! error against the size of the run.

use plotters::prelude::{
    EmptyElement, FontStyle, IntoDrawingArea, PathElement, Polygon, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle, WHITE};

use super::WIDTH;
use super::axis::{Axis, Style, TICK_GAP};
use super::canvas::{
    Area, Chart, Drawn, LEGEND_LINE_PX, LEGEND_SIGN_PX, MARGIN, chart, draw_titles, fitted,
    regular, text,
};
use super::marks::{Look, SHAPES, draw_mark};
use super::style::{CURVES, FAINT, IDEAL, INK, LABEL_PX, SUBTITLE_PX, TITLE_PX};

/// A training run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunPoint {
    /// Runs of one family share colour and shape.
    pub(crate) family: String,
    /// What errors are drawn against.
    pub(crate) accelerators: f64,
    pub(crate) published: f64,
    pub(crate) predicted: f64,
    /// The ends of the prediction's 95 % interval.
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    /// What perfect scaling from the anchor says.
    pub(crate) perfect: Option<f64>,
}

/// Training runs of one quantity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunsFigure {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// Such as "accelerators".
    pub(crate) x_of_errors: String,
    /// Such as "images/s".
    pub(crate) unit: String,
    /// Errors are relative; else, as for accuracies, they are differences.
    pub(crate) logarithmic: bool,
    pub(crate) points: Vec<RunPoint>,
}

/// The band of small errors: percent, or points where errors are differences.
const BAND_PERCENT: f64 = 10.0;
const BAND_POINTS: f64 = 1.0;
/// Where errors are drawn at the axis's end: in bands; those of perfect scaling come sooner.
const ERROR_BANDS: f64 = 10.0;
const PERFECT_BANDS: f64 = 6.0;
/// Predictions this many times above or below all published values are drawn at the axis's end.
const BEYOND: f64 = 4.0;

const LEGEND_AT: u32 = 106;
/// Between legend and panels.
const GAP_PX: u32 = 12;
const PANEL_PX: u32 = 500;
/// About the width of a letter, for the columns of the legend.
const LETTER_PX: f64 = 7.8;
/// Longer names are cut.
const NAME_LETTERS: usize = 36;
const MARK_PX: i32 = 6;
/// Many marks are smaller.
const MANY: usize = 40;
/// Between runs of one size, and from the first of them to the last at most.
const BESIDE_PX: i32 = 7;
const ABREAST_PX: i32 = 28;
const CROSS_PX: i32 = 4;
/// More ticks than this crowd an axis.
const COUNTS_MAX: usize = 11;

fn look(index: usize) -> Look {
    // Perfect scaling alone is grey.
    let grey = |color: &&RGBColor| color.0 != color.1 || color.1 != color.2;
    let colors = || CURVES.iter().filter(grey);
    let color = colors().nth(index % colors().count().max(1)).copied().unwrap_or(INK);
    (SHAPES[index % SHAPES.len()], color)
}

/// One run, in the panels' values.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    look: Look,
    /// Pixels to the side, where several runs have one size.
    aside: i32,
    accelerators: f64,
    published: f64,
    predicted: f64,
    interval: Option<(f64, f64)>,
    perfect: Option<f64>,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    title: String,
    subtitle: String,
    summary: String,
    /// What errors are drawn against.
    against: String,
    families: Vec<(Look, String)>,
    runs: Vec<Run>,
    relative: bool,
    published: Axis,
    predicted: Axis,
    accelerators: Axis,
    errors: Axis,
    /// Whether something lies beyond an axis.
    beyond: bool,
}

impl Plan {
    /// Nothing where no run can be drawn.
    pub(super) fn new(figure: &RunsFigure) -> Option<Self> {
        let usable = |value: f64| value.is_finite() && value > 0.0;
        let drawn: Vec<&RunPoint> = figure
            .points
            .iter()
            .filter(|p| usable(p.published) && usable(p.accelerators) && p.predicted.is_finite())
            .collect();
        let mut names: Vec<&str> = Vec::new();
        for point in &drawn {
            if !names.contains(&point.family.as_str()) {
                names.push(&point.family);
            }
        }
        let family = |name: &str| names.iter().position(|known| *known == name);
        let runs: Vec<Run> = drawn
            .iter()
            .enumerate()
            .map(|(index, point)| Run {
                aside: aside(&drawn, index),
                look: look(family(&point.family).unwrap_or_default()),
                accelerators: point.accelerators,
                published: point.published,
                predicted: point.predicted,
                interval: point
                    .low
                    .zip(point.high)
                    .filter(|(low, high)| low.is_finite() && high.is_finite() && low <= high),
                perfect: point.perfect.filter(|value| value.is_finite()),
            })
            .collect();
        if runs.is_empty() {
            return None;
        }
        let relative = figure.logarithmic;
        let [published, predicted] = values_axes(&runs, figure);
        let errors = error_axis(&runs, relative);
        let mut accelerators =
            counts_axis(&figure.x_of_errors, runs.iter().map(|run| run.accelerators));
        if runs.iter().any(|run| run.aside != 0) {
            accelerators.title += " (runs of one size side by side)";
        }
        let mut plan = Self {
            title: figure.title.clone(),
            subtitle: figure.subtitle.clone(),
            summary: summary(&drawn, figure),
            against: figure.x_of_errors.clone(),
            families: names
                .iter()
                .enumerate()
                .map(|(index, name)| (look(index), short(name)))
                .collect(),
            runs,
            relative,
            published,
            predicted,
            accelerators,
            errors,
            beyond: false,
        };
        plan.beyond = plan.runs.iter().any(|run| {
            let values = [Some(run.predicted), run.perfect];
            values.into_iter().flatten().any(|value| {
                end(&plan.predicted, value).is_some()
                    || end(&plan.errors, error(value, run.published, relative)).is_some()
            })
        });
        Some(plan)
    }

    /// Pixels across and down.
    pub(super) fn size(&self) -> (u32, u32) {
        let lines = 1 + self.families.len().div_ceil(self.columns()) as u32;
        (WIDTH, LEGEND_AT + LEGEND_LINE_PX * lines + GAP_PX + PANEL_PX)
    }

    /// Title, and description for readers who cannot see the figure.
    pub(super) fn words(&self) -> (&str, &str) {
        (&self.title, &self.summary)
    }

    fn columns(&self) -> usize {
        ((WIDTH as i32 - 2 * MARGIN) / self.column_px()).max(1) as usize
    }

    fn column_px(&self) -> i32 {
        let letters = self.families.iter().map(|(_, name)| name.chars().count()).max();
        LEGEND_SIGN_PX + 26 + (LETTER_PX * letters.unwrap_or_default() as f64) as i32
    }
}

/// How far to the side a run is drawn, that those of its size remain visible.
fn aside(points: &[&RunPoint], index: usize) -> i32 {
    let same = |point: &&&RunPoint| point.accelerators == points[index].accelerators;
    let before = points[..index].iter().filter(same).count() as i32;
    let gaps = points.iter().filter(same).count() as i32 - 1;
    let length = (BESIDE_PX * gaps).min(ABREAST_PX);
    if gaps > 0 { length * before / gaps - length / 2 } else { 0 }
}

fn short(name: &str) -> String {
    match name.char_indices().nth(NAME_LETTERS) {
        Some((at, _)) => format!("{}…", name[..at].trim_end()),
        None => name.to_owned(),
    }
}

/// Percent, or the difference.
fn error(value: f64, published: f64, relative: bool) -> f64 {
    if relative { 100.0 * (value / published - 1.0) } else { value - published }
}

const fn band(relative: bool) -> f64 {
    if relative { BAND_PERCENT } else { BAND_POINTS }
}

/// Mean, median and worst, of what the errors are absolutely.
fn summary(points: &[&RunPoint], figure: &RunsFigure) -> String {
    let relative = figure.logarithmic;
    let unit = if relative { "%" } else { "points" };
    let sorted = |values: &mut dyn Iterator<Item = f64>| {
        let mut sorted: Vec<f64> = values.map(f64::abs).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let mean = |sorted: &[f64]| sorted.iter().sum::<f64>() / sorted.len() as f64;
    let median = |sorted: &[f64]| {
        let half = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
    };
    let of = |point: &&RunPoint| error(point.predicted, point.published, relative);
    let errors = sorted(&mut points.iter().map(of));
    let worst = points.iter().max_by(|left, right| of(left).abs().total_cmp(&of(right).abs()));
    let number = |value: f64| match value.abs() {
        size if size >= 1e6 => format!("{value:.1e}"),
        size if size >= 1e3 => format!("{value:.0}"),
        size if size < 1.0 && !relative => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    };
    let mut text = format!(
        "{} {}: mean error {} {unit}, median {} {unit}",
        points.len(),
        if points.len() == 1 { "row" } else { "rows" },
        number(mean(&errors)),
        number(median(&errors)),
    );
    if let Some(worst) = worst {
        let (error, sign) = (of(worst), if of(worst) > 0.0 { "+" } else { "" });
        let family = short(&worst.family);
        let (count, x) = (worst.accelerators, &figure.x_of_errors);
        let at = if x.ends_with('s') { format!("{count} {x}") } else { format!("{x} {count}") };
        text += &format!(", worst {sign}{} {unit} ({family}, {at})", number(error));
    }
    let of = |point: &&RunPoint| Some(error(point.perfect?, point.published, relative));
    let perfect = sorted(&mut points.iter().filter_map(of).filter(|error| error.is_finite()));
    if !perfect.is_empty() {
        text += &format!("; perfect scaling: mean {} {unit}", number(mean(&perfect)));
    }
    let left = figure.points.len() - points.len();
    if left > 0 {
        text += &format!("; not drawn, for want of a number: {left}");
    }
    text
}

/// The axes of published and predicted values: the same values on both.
fn values_axes(runs: &[Run], figure: &RunsFigure) -> [Axis; 2] {
    let (low, high) = ends(runs.iter().map(|run| run.published));
    let near = |value: f64| value.clamp(low / BEYOND, high * BEYOND);
    let values = runs.iter().flat_map(|run| {
        let (from, to) = run.interval.unzip();
        let values = [Some(run.published), Some(run.predicted), from, to, run.perfect];
        values.into_iter().flatten().map(near)
    });
    let style = if figure.unit == "images/s" { Style::Count } else { Style::Plain };
    let axis = if !figure.logarithmic {
        Axis::linear("", style, ends(values), 0.08)
    } else if figure.unit == "minutes" {
        Axis::minutes("", values)
    } else {
        Axis::log("", style, values)
    };
    let axis = axis.spaced(TICK_GAP);
    ["published", "predicted"].map(|word| {
        // Minutes have their unit at every tick.
        let title = match figure.unit.as_str() {
            "" | "minutes" => word.to_owned(),
            unit => format!("{word}, {unit}"),
        };
        Axis { title, ..axis.clone() }
    })
}

fn error_axis(runs: &[Run], relative: bool) -> Axis {
    let band = band(relative);
    let of = |run: &Run, value: f64| error(value, run.published, relative);
    let most = ERROR_BANDS * band;
    let own = runs.iter().map(|run| of(run, run.predicted).clamp(-most, most));
    let largest = own.clone().map(f64::abs).fold(0.0, f64::max);
    let most = (3.0 * largest).clamp(PERFECT_BANDS * band, most);
    let others = runs.iter().flat_map(|run| {
        let (from, to) = run.interval.unzip();
        [from, to, run.perfect].into_iter().flatten().map(|value| of(run, value))
    });
    let always = [-1.3 * band, 1.3 * band];
    let values = own.chain(others.map(|value| value.clamp(-most, most))).chain(always);
    let (title, style) =
        if relative { ("error", Style::Percent) } else { ("error, points", Style::Plain) };
    Axis::linear(title, style, ends(values), 0.05)
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
}

/// A logarithmic axis with ticks at powers of two.
fn counts_axis(title: &str, values: impl Iterator<Item = f64>) -> Axis {
    let mut axis = Axis::log(title, Style::Count, values);
    let powers = axis.range.0.log2().ceil() as i32..=axis.range.1.log2().floor() as i32;
    let every = powers.clone().count().div_ceil(COUNTS_MAX).max(1);
    let ticks: Vec<f64> = powers.step_by(every).map(|power| 2_f64.powi(power)).collect();
    if ticks.iter().any(|tick| *tick >= 1.0) {
        axis.ticks = ticks.into_iter().filter(|tick| *tick >= 1.0).collect();
    }
    axis
}

/// The end of the axis that a value lies beyond: below or above.
fn end(axis: &Axis, value: f64) -> Option<bool> {
    let inside = (axis.range.0..=axis.range.1).contains(&value);
    (!inside).then_some(value > axis.range.1)
}

/// A value's coordinate, at the axis's end where it lies beyond.
fn at(axis: &Axis, value: f64) -> f64 {
    axis.coordinate(value.clamp(axis.range.0, axis.range.1))
}

pub(super) fn draw(plan: &Plan, backend: SVGBackend<'_>) -> Drawn {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    draw_header(plan, &root)?;
    let (_, body) = root.split_vertically(plan.size().1 - PANEL_PX);
    if let [left, right] = body.split_evenly((1, 2)).as_slice() {
        draw_values(plan, left)?;
        draw_errors(plan, right)?;
    }
    root.present()
}

fn draw_header(plan: &Plan, area: &Area<'_>) -> Drawn {
    let width = WIDTH as i32 - 2 * MARGIN;
    let (bold, small) = (text(TITLE_PX, FontStyle::Bold, INK), regular(SUBTITLE_PX, FAINT));
    let title = fitted(&plan.title, &bold, width, area)?;
    draw_titles(&title, &fitted(&plan.subtitle, &small, width, area)?, area)?;
    let label = regular(LABEL_PX, INK);
    let summary = fitted(&plan.summary, &label, width, area)?;
    area.draw(&Text::new(summary, (MARGIN, 78), label.clone()))?;
    let label = label.pos(Pos::new(HPos::Left, VPos::Center));
    let line = LEGEND_LINE_PX as i32;
    let mut y = LEGEND_AT as i32 + line / 2;
    for families in plan.families.chunks(plan.columns()) {
        for (index, (look, name)) in families.iter().enumerate() {
            let x = MARGIN + plan.column_px() * index as i32;
            draw_mark(*look, MARK_PX, (x + LEGEND_SIGN_PX / 2, y), area)?;
            area.draw(&Text::new(name.as_str(), (x + LEGEND_SIGN_PX + 4, y), label.clone()))?;
        }
        y += line;
    }
    draw_references(plan, y, area)
}

/// An entry of the legend that is no family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reference {
    Band,
    Interval,
    Perfect,
    Beyond,
}

fn references(plan: &Plan) -> Vec<(Reference, String)> {
    let off = match (plan.relative, band(plan.relative)) {
        (true, band) => format!("{band} %"),
        (false, 1.0) => "1 point".to_owned(),
        (false, band) => format!("{band} points"),
    };
    let any = |has: fn(&Run) -> bool| plan.runs.iter().any(has);
    let mut all = vec![(Reference::Band, format!("as published, and up to {off} off"))];
    if any(|run| run.interval.is_some()) {
        all.push((Reference::Interval, "95 % interval".to_owned()));
    }
    if any(|run| run.perfect.is_some()) {
        all.push((Reference::Perfect, "perfect scaling from the anchor".to_owned()));
    }
    if plan.beyond {
        all.push((Reference::Beyond, "beyond the axis".to_owned()));
    }
    all
}

/// The legend's last line.
fn draw_references(plan: &Plan, y: i32, area: &Area<'_>) -> Drawn {
    let label = regular(LABEL_PX, INK).pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = MARGIN;
    for (reference, name) in references(plan) {
        let middle = x + LEGEND_SIGN_PX / 2;
        match reference {
            Reference::Band => {
                let corners = [(x, y - 7), (x + LEGEND_SIGN_PX, y + 7)];
                area.draw(&Rectangle::new(corners, shade()))?;
                let ends = [(x, y), (x + LEGEND_SIGN_PX, y)];
                area.draw(&PathElement::new(ends, INK.stroke_width(1)))?;
            }
            Reference::Interval => {
                area.draw(&PathElement::new([(middle, y - 8), (middle, y + 8)], bar(INK)))?;
            }
            Reference::Perfect => draw_cross((middle, y), area)?,
            Reference::Beyond => draw_arrow(true, (middle, y - 8), INK, area)?,
        }
        let width = area.estimate_text_size(&name, &label)?.0 as i32;
        x += LEGEND_SIGN_PX + 4;
        area.draw(&Text::new(name, (x, y), label.clone()))?;
        x += width + 26;
    }
    Ok(())
}

fn shade() -> ShapeStyle {
    IDEAL.mix(0.22).filled()
}

fn bar(color: RGBColor) -> ShapeStyle {
    color.mix(0.75).stroke_width(2)
}

fn draw_values(plan: &Plan, area: &Area<'_>) -> Drawn {
    let (x, y) = (&plan.published, &plan.predicted);
    let mut chart = chart("Predicted and published", x, y, area)?;
    let band = band(plan.relative);
    // The same lines in both axes' coordinates, clipped to the panel.
    let (low, high) = (x.coordinate(x.range.0), x.coordinate(x.range.1));
    let off = |by: f64| if plan.relative { (1.0 + by / 100.0).log2() } else { by };
    let (down, up) = (off(-band), off(band));
    let corners = [
        (low, low),
        (low - down, low),
        (high, high + down),
        (high, high),
        (high - up, high),
        (low, low + up),
    ];
    let inside = |(x, y): (f64, f64)| (x.clamp(low, high), y.clamp(low, high));
    chart.draw_series([Polygon::new(corners.map(inside), shade())])?;
    chart.draw_series([PathElement::new([(low, low), (high, high)], INK.stroke_width(1))])?;
    draw_runs(plan, &chart, |run, value| (at(x, run.published), 0, y, value))
}

fn draw_errors(plan: &Plan, area: &Area<'_>) -> Drawn {
    let (x, y) = (&plan.accelerators, &plan.errors);
    let title = format!("Error against {}", plan.against);
    let mut chart = chart(&title, x, y, area)?;
    let band = band(plan.relative);
    let (from, to) = (x.coordinate(x.range.0), x.coordinate(x.range.1));
    chart.draw_series([Rectangle::new([(from, -band), (to, band)], shade())])?;
    chart.draw_series([PathElement::new([(from, 0.0), (to, 0.0)], INK.stroke_width(1))])?;
    draw_runs(plan, &chart, |run, value| {
        (at(x, run.accelerators), run.aside, y, error(value, run.published, plan.relative))
    })
}

/// Draws perfect scaling, then intervals, then predictions; `place` says where a run's value is:
/// the coordinate across and pixels beside it, the axis up and the value there.
fn draw_runs<'a>(
    plan: &Plan,
    chart: &Chart<'_, '_>,
    place: impl Fn(&Run, f64) -> (f64, i32, &'a Axis, f64),
) -> Drawn {
    let area = chart.plotting_area().strip_coord_spec();
    let origin = area.get_base_pixel();
    let pixel = |x: f64, y: f64| {
        let (x, y) = chart.plotting_area().map_coordinate(&(x, y));
        (x - origin.0, y - origin.1)
    };
    // At its size, and to the side; and the end of the axis that it lies beyond.
    let find = |run: &Run, value: f64| {
        let (x, aside, axis, value) = place(run, value);
        let (x, y) = pixel(x, at(axis, value));
        [(x, y), (x + aside, y)].map(|centre| (centre, end(axis, value)))
    };
    for run in &plan.runs {
        if let Some(perfect) = run.perfect {
            let [(centre, beyond), _] = find(run, perfect);
            match beyond {
                Some(above) => draw_arrow(above, centre, IDEAL, &area)?,
                None => draw_cross(centre, &area)?,
            }
        }
    }
    for run in &plan.runs {
        if let Some((low, high)) = run.interval {
            let ends = [find(run, low)[1].0, find(run, high)[1].0];
            area.draw(&PathElement::new(ends, bar(run.look.1)))?;
        }
    }
    let size = if plan.runs.len() > MANY { MARK_PX - 1 } else { MARK_PX };
    for run in &plan.runs {
        let [_, (centre, beyond)] = find(run, run.predicted);
        match beyond {
            Some(above) => draw_arrow(above, centre, run.look.1, &area)?,
            None => draw_mark(run.look, size, centre, &area)?,
        }
    }
    Ok(())
}

fn draw_cross((x, y): (i32, i32), area: &Area<'_>) -> Drawn {
    let s = CROSS_PX;
    for ends in [[(x - s, y - s), (x + s, y + s)], [(x - s, y + s), (x + s, y - s)]] {
        area.draw(&PathElement::new(ends, IDEAL.stroke_width(2)))?;
    }
    Ok(())
}

/// An arrow whose tip is at the end of the axis that a value lies beyond.
fn draw_arrow(up: bool, tip: (i32, i32), color: RGBColor, area: &Area<'_>) -> Drawn {
    let down = if up { 1 } else { -1 };
    let style = color.stroke_width(2);
    let line =
        |ends: Vec<(i32, i32)>| area.draw(&(EmptyElement::at(tip) + PathElement::new(ends, style)));
    line(vec![(0, down), (0, 16 * down)])?;
    line(vec![(-5, 7 * down), (0, down), (5, 7 * down)])
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;

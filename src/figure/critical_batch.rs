//! Epochs against the batch, and the noise scale that predicts them.

use foretrain_calibrate::critical_batch::{Answer, Run, predicted};
use foretrain_sim::convergence::noise_scale::Phase;
use plotters::prelude::{
    Circle, EmptyElement, IntoDrawingArea, LineSeries, PathElement, Polygon, Rectangle, SVGBackend,
    Text,
};

use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle, WHITE};

use super::WIDTH;
use super::axis::{Axis, Style};
use super::canvas::{Area, Drawn, LEGEND_SIGN_PX, MARGIN, chart, draw_titles, regular};
use super::style::{COMPUTE, FAINT, IDEAL, INK, LABEL_PX, PUBLISHED};

/// Pixels across and down.
pub(super) const SIZE: (u32, u32) = (WIDTH, HEADER_PX + PANEL_PX);
const HEADER_PX: u32 = 118;
const PANEL_PX: u32 = 480;
/// The panel of epochs, of the whole width.
const EPOCHS_PX: u32 = 760;
const LEGEND_Y: i32 = 92;
/// Points of the law's curve.
const CURVE: u32 = 48;
const LINE_PX: u32 = 3;
const MARK_PX: i32 = 8;
const RUN_PX: i32 = 4;
const INTERVAL_PX: i32 = 6;

/// What is drawn.
pub(super) struct Plan<'a> {
    answer: &'a Answer,
    title: String,
    subtitle: String,
    summary: String,
    batches: Axis,
    epochs: Axis,
    /// Batches from end to end, and what the law says there: low, value, high.
    law: Vec<(f64, [f64; 3])>,
    passes: Axis,
    scales: Axis,
    phases: Vec<Vec<(f64, f64)>>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(answer: &'a Answer, made: &str) -> Self {
        let measured = &answer.measured;
        let batches: Vec<f64> = std::iter::once(f64::from(measured.batch))
            .chain(answer.rows.iter().map(|row| f64::from(row.batch)))
            .collect();
        let batch_axis = Axis::counts("global batch, images", batches.iter().copied());
        let (low, high) = batch_axis.range;
        let law: Vec<(f64, [f64; 3])> = (0..=CURVE)
            .map(|step| {
                let part = f64::from(step) / f64::from(CURVE);
                let batch = low * (high / low).powf(part);
                let epochs = predicted(measured, &answer.critical_batch, batch);
                (batch, [epochs.low, epochs.value, epochs.high])
            })
            .collect();
        let actual = answer.rows.iter().flat_map(|row| &row.runs).filter_map(|run| run.epochs);
        let shown = law.iter().flat_map(|(_, ends)| *ends).filter(|value| value.is_finite());
        let epochs = Axis::log("epochs to the target", Style::Plain, shown.chain(actual));
        let phases = scales(answer);
        let critical = &answer.critical_batch;
        let values = phases.iter().flatten().map(|(_, scale)| *scale);
        let scales = Axis::log(
            "images",
            Style::Count,
            values.chain([critical.low, critical.value, critical.high]),
        );
        // Room for the panel's key.
        let scales = Axis { range: (scales.range.0, scales.range.1 * 1.25), ..scales };
        let last = phases.iter().flatten().map(|(epochs, _)| *epochs).fold(0.0, f64::max);
        let title = format!(
            "Epochs to {:.1} % top-1: predicted from batch {}",
            answer.target_top1_percent, measured.batch
        );
        let mut summary = format!(
            "{}; critical batch {:.0} images ({:.0} to {:.0}), measured at batch {}",
            answer.name, critical.value, critical.low, critical.high, measured.batch
        );
        if let Some(error) = answer.mean_abs_error_percent() {
            summary += &format!("; mean error {error:.1} %");
        }
        Self {
            answer,
            title,
            subtitle: format!("{}  ·  {made}", answer.name),
            summary,
            batches: batch_axis,
            epochs,
            law,
            passes: Axis::from_zero("epochs at the measured batch", Style::Plain, last * 1.04),
            scales,
            phases,
        }
    }

    pub(super) fn words(&self) -> (&str, &str) {
        (&self.title, &self.summary)
    }
}

/// Of every run at the measured batch, the middle of each phase in epochs and the noise scale there.
fn scales(answer: &Answer) -> Vec<Vec<(f64, f64)>> {
    let phases = &answer.critical_batch.phases;
    let epochs =
        |step: f64| step * f64::from(answer.measured.batch) / f64::from(answer.images.max(1));
    // A run's first phase is the one without steps before it.
    let starts = phases.iter().enumerate().filter(|(_, phase)| phase.first_step == 0);
    let mut cuts: Vec<usize> = starts.map(|(index, _)| index).collect();
    cuts.push(phases.len());
    let point = |phase: &Phase| {
        let middle = phase.first_step as f64 + phase.steps as f64 / 2.0;
        phase.noise_scale.map(|scale| (epochs(middle), scale))
    };
    cuts.windows(2)
        .map(|pair| phases[pair[0]..pair[1]].iter().filter_map(point).collect())
        .collect()
}

pub(super) fn draw(plan: &Plan<'_>, backend: SVGBackend<'_>) -> Drawn {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    draw_titles(&plan.title, &plan.subtitle, &root)?;
    draw_legend(plan, &root)?;
    let (_, body) = root.split_vertically(HEADER_PX);
    let (left, right) = body.split_horizontally(EPOCHS_PX);
    draw_epochs(plan, &left)?;
    draw_scales(plan, &right)?;
    root.present()
}

fn shade(color: RGBColor) -> ShapeStyle {
    color.mix(0.16).filled()
}

fn draw_legend(plan: &Plan<'_>, area: &Area<'_>) -> Drawn {
    let label = regular(LABEL_PX, INK).pos(Pos::new(HPos::Left, VPos::Center));
    let (mut x, y) = (MARGIN, LEGEND_Y);
    let tried = plan.answer.rows.iter().any(|row| !row.runs.is_empty());
    let mut entries = vec!["the law with its 95 % interval", "measured: all that it knows"];
    if tried {
        entries.extend(["trained afterwards: mean", "single runs", "+5 %: predicted 5 % too many"]);
    }
    for (index, name) in entries.into_iter().enumerate() {
        let centre = (x + LEGEND_SIGN_PX / 2, y);
        match index {
            0 => {
                let corners = [(x, y - 8), (x + LEGEND_SIGN_PX, y + 8)];
                area.draw(&Rectangle::new(corners, shade(COMPUTE)))?;
                let ends = [(x, y), (x + LEGEND_SIGN_PX, y)];
                area.draw(&PathElement::new(ends, COMPUTE.stroke_width(LINE_PX)))?;
            }
            1 => draw_measured(centre, area)?,
            2 => draw_mean(centre, area)?,
            3 => draw_run(centre, area)?,
            // Words alone.
            _ => x -= LEGEND_SIGN_PX + 8,
        }
        x += LEGEND_SIGN_PX + 8;
        let width = area.estimate_text_size(name, &label)?.0 as i32;
        area.draw(&Text::new(name, (x, y), label.clone()))?;
        x += width + 30;
    }
    Ok(())
}

fn draw_measured(centre: (i32, i32), area: &Area<'_>) -> Drawn {
    area.draw(&Circle::new(centre, MARK_PX + 1, WHITE.filled()))?;
    area.draw(&Circle::new(centre, MARK_PX - 1, COMPUTE.filled()))
}

fn draw_mean(centre: (i32, i32), area: &Area<'_>) -> Drawn {
    for (size, color) in [(MARK_PX + 2, WHITE), (MARK_PX, PUBLISHED)] {
        let corners = vec![(0, -size), (size, 0), (0, size), (-size, 0)];
        area.draw(&(EmptyElement::at(centre) + Polygon::new(corners, color.filled())))?;
    }
    Ok(())
}

fn draw_run(centre: (i32, i32), area: &Area<'_>) -> Drawn {
    area.draw(&Circle::new(centre, RUN_PX, PUBLISHED.mix(0.55).filled()))
}

fn draw_epochs(plan: &Plan<'_>, area: &Area<'_>) -> Drawn {
    let (x, y) = (&plan.batches, &plan.epochs);
    let mut chart = chart("Epochs to the target", x, y, area)?;
    let (bottom, top) = (y.coordinate(y.range.0), y.coordinate(y.range.1));
    let at =
        |batch: f64, epochs: f64| (x.coordinate(batch), y.coordinate(epochs).clamp(bottom, top));
    let low = plan.law.iter().map(|(batch, ends)| at(*batch, ends[0]));
    let high = plan.law.iter().rev().map(|(batch, ends)| at(*batch, ends[2]));
    chart.draw_series([Polygon::new(low.chain(high).collect::<Vec<_>>(), shade(COMPUTE))])?;
    let critical = plan.answer.critical_batch.value;
    if (x.range.0..=x.range.1).contains(&critical) {
        let line = [(x.coordinate(critical), bottom), (x.coordinate(critical), top)];
        chart.draw_series([PathElement::new(line, IDEAL.stroke_width(1))])?;
    }
    let middle = plan.law.iter().map(|(batch, ends)| at(*batch, ends[1]));
    chart.draw_series(LineSeries::new(middle, COMPUTE.stroke_width(LINE_PX)))?;
    let inner = chart.plotting_area().strip_coord_spec();
    let origin = inner.get_base_pixel();
    let pixel = |batch: f64, epochs: f64| {
        let (x, y) = chart.plotting_area().map_coordinate(&at(batch, epochs));
        (x - origin.0, y - origin.1)
    };
    let faint = regular(LABEL_PX, FAINT);
    if (x.range.0..=x.range.1).contains(&critical) {
        let place = pixel(critical, y.range.0);
        let style = faint.clone().pos(Pos::new(HPos::Left, VPos::Bottom));
        let words = format!("critical batch {critical:.0}");
        inner.draw(&Text::new(words, (place.0 + 6, place.1 - 8), style))?;
    }
    let runs = |runs: &[Run], batch: u32| -> Drawn {
        for epochs in runs.iter().filter_map(|run| run.epochs) {
            draw_run(pixel(f64::from(batch), epochs), &inner)?;
        }
        Ok(())
    };
    for row in &plan.answer.rows {
        let batch = f64::from(row.batch);
        let predicted = row.predicted_epochs;
        for end in [predicted.low, predicted.high] {
            let (x, y) = pixel(batch, end);
            let ends = [(x - INTERVAL_PX, y), (x + INTERVAL_PX, y)];
            inner.draw(&PathElement::new(ends, COMPUTE.stroke_width(2)))?;
        }
        runs(&row.runs, row.batch)?;
        if let Some(actual) = row.actual_epochs {
            let centre = pixel(batch, actual);
            draw_mean(centre, &inner)?;
            if let Some(error) = row.error_percent {
                let style = regular(LABEL_PX, INK).pos(Pos::new(HPos::Center, VPos::Bottom));
                // Predicted against actual, as in the table.
                let above = pixel(batch, actual.max(predicted.high)).1 - 14;
                inner.draw(&Text::new(format!("{error:+.0} %"), (centre.0, above), style))?;
            }
        }
    }
    let measured = &plan.answer.measured;
    draw_measured(pixel(f64::from(measured.batch), measured.epochs), &inner)
}

fn draw_scales(plan: &Plan<'_>, area: &Area<'_>) -> Drawn {
    let (x, y) = (&plan.passes, &plan.scales);
    let mut chart = chart("Noise scale while it was measured", x, y, area)?;
    let critical = &plan.answer.critical_batch;
    let (left, right) = (x.coordinate(x.range.0), x.coordinate(x.range.1));
    let [low, value, high] = [critical.low, critical.value, critical.high]
        .map(|scale| y.coordinate(scale.clamp(y.range.0, y.range.1)));
    chart.draw_series([Rectangle::new([(left, low), (right, high)], shade(COMPUTE))])?;
    let line = COMPUTE.stroke_width(LINE_PX - 1);
    chart.draw_series([PathElement::new([(left, value), (right, value)], line)])?;
    for run in &plan.phases {
        let points: Vec<(f64, f64)> =
            run.iter().map(|&(at, scale)| (x.coordinate(at), y.coordinate(scale))).collect();
        chart.draw_series(LineSeries::new(points.clone(), INK.mix(0.55).stroke_width(2)))?;
        chart.draw_series(points.iter().map(|at| Circle::new(*at, RUN_PX - 1, INK.filled())))?;
    }
    let inner = chart.plotting_area().strip_coord_spec();
    let style = regular(LABEL_PX, INK).pos(Pos::new(HPos::Left, VPos::Center));
    let words = format!(
        "weighted mean: critical batch {:.0} ({:.0} to {:.0})",
        critical.value, critical.low, critical.high
    );
    inner.draw(&PathElement::new([(12, 14), (12 + LEGEND_SIGN_PX, 14)], line))?;
    inner.draw(&Text::new(words, (20 + LEGEND_SIGN_PX, 14), style.clone()))?;
    inner.draw(&PathElement::new(
        [(12, 36), (12 + LEGEND_SIGN_PX, 36)],
        INK.mix(0.55).stroke_width(2),
    ))?;
    inner.draw(&Circle::new((12 + LEGEND_SIGN_PX / 2, 36), RUN_PX - 1, INK.filled()))?;
    let words = if plan.phases.len() == 1 { "the run, by tenths" } else { "each run, by tenths" };
    inner.draw(&Text::new(words, (20 + LEGEND_SIGN_PX, 36), style))
}

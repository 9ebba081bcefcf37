//! The figure of forecasts: how training scales, how long it takes, how accurate it becomes, what it
//! costs.

use foretrain_sim::forecast::{Forecast, Point, Quantity};
use plotters::style::RGBColor;

use super::axis::{Axis, Style, TICK_GAP};
use super::panels::{Band, Bar, Curve, Figure, Mark, Note, Panel, Sign, Stroke, values};
use super::series::{Along, Series, legend, series};
use super::style;

/// Accuracies that differ by less, in points, are the same.
const SAME_POINTS: f64 = 0.05;

/// The figure of some forecasts (at least one).
pub(super) fn figure(forecasts: &[Forecast]) -> Figure {
    let along = Along::of(forecasts);
    let series = series(forecasts, along);
    let x = || {
        let points = series.iter().flat_map(|one| &one.points);
        let title = match along {
            Along::Accelerators => "accelerators".to_owned(),
            Along::GlobalBatch => format!(
                "global batch, on {} accelerators",
                forecasts.first().map_or(0, |forecast| forecast.points[0].accelerators)
            ),
        };
        let axis = Axis::counts(&title, points.map(|point| along.value(point)));
        match along {
            Along::Accelerators => axis,
            // Powers of two that nobody knows by their thousands.
            Along::GlobalBatch => Axis { style: Style::Whole, ..axis }.spaced(TICK_GAP),
        }
    };
    let panels = match along {
        Along::Accelerators => of_accelerators(&series, x),
        Along::GlobalBatch => of_batches(&series, x),
    };
    let mut legend = legend(&series, along);
    if panels.iter().any(|panel| !panel.bands.is_empty()) {
        legend.push((Sign::Band, style::FAINT, "95 % interval".to_owned()));
    }
    let subtitle = made(forecasts);
    let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    let names: Vec<&str> = series.iter().map(|one| one.name.as_str()).collect();
    Figure {
        title: title(forecasts),
        description: format!(
            "{subtitle}. Panels, each against {}: {}. Curves: {}.",
            x().title,
            titles.join("; "),
            names.join("; ")
        ),
        subtitle,
        legend,
        panels,
    }
}

/// An even number of panels, or a wide one at the end.
fn of_accelerators(series: &[Series<'_>], x: impl Fn() -> Axis) -> Vec<Panel> {
    let mut panels = vec![throughput(series, x()), efficiency(series, x())];
    if let [only] = series {
        panels.push(step(only, x()));
    }
    panels.push(duration(series, x()));
    panels.extend(accuracy(series, x()));
    let costs = has_cost(series);
    if costs {
        panels.push(cost(series, "accelerators", |point| u64::from(point.accelerators)));
    }
    match series {
        _ if panels.len().is_multiple_of(2) => {}
        [_] if costs => panels.push(price(series, x())),
        [_] => panels.last_mut().into_iter().for_each(|last| last.wide = true),
        _ => panels.insert(2, waits(series, x())),
    }
    panels
}

fn of_batches(series: &[Series<'_>], x: impl Fn() -> Axis) -> Vec<Panel> {
    let accuracy = accuracy(series, x()).map(|panel| Panel { wide: true, ..panel });
    let mut panels = vec![duration(series, x()), throughput(series, x()), efficiency(series, x())];
    panels.push(match series {
        _ if has_cost(series) => cost(series, "global batches", |point| point.global_batch),
        [only] => step(only, x()),
        _ => waits(series, x()),
    });
    accuracy.into_iter().chain(panels).collect()
}

fn title(forecasts: &[Forecast]) -> String {
    let names: Vec<&str> = forecasts.iter().map(|f| f.foretrain.scenario.as_str()).collect();
    match names.as_slice() {
        [one] => (*one).to_owned(),
        some => format!("{} forecasts compared", some.len()),
    }
}

fn made(forecasts: &[Forecast]) -> String {
    let made: Vec<String> = forecasts.iter().map(|f| super::made_by(&f.foretrain)).collect();
    made.join("; ")
}

fn throughput(series: &[Series<'_>], x: Axis) -> Panel {
    let marks: Vec<Mark> =
        series.iter().flat_map(|one| one.marks(Quantity::ImagesPerS, 1.0)).collect();
    let mut curves: Vec<Curve> = series
        .iter()
        .map(|one| Curve {
            color: style::IDEAL,
            stroke: Stroke::Dashed,
            ..one.curve(|point| Some(point.images_per_s / point.scaling_efficiency))
        })
        .collect();
    curves.extend(series.iter().map(|one| one.curve(|point| Some(point.images_per_s))));
    let y = Axis::log("images/s", Style::Count, values(&curves, &marks));
    Panel { marks, ..Panel::new("Throughput", x, y, curves) }
}

fn efficiency(series: &[Series<'_>], x: Axis) -> Panel {
    let marks: Vec<Mark> =
        series.iter().flat_map(|one| one.marks(Quantity::ScalingEfficiency, 100.0)).collect();
    let ends = vec![(x.range.0, 100.0), (x.range.1, 100.0)];
    let mut curves = vec![Curve { color: style::IDEAL, stroke: Stroke::Dashed, points: ends }];
    curves.extend(series.iter().map(|one| one.curve(|p| Some(100.0 * p.scaling_efficiency))));
    let high = values(&curves, &marks).fold(100.0, f64::max) * 1.06;
    let y = Axis::from_zero("of as many single accelerators", Style::Percent, high);
    Panel { marks, ..Panel::new("Scaling efficiency", x, y, curves) }
}

/// A part of a step: its colour, its name, its milliseconds.
type Part = (RGBColor, &'static str, fn(&Point) -> f64);

/// Where each millisecond of a step goes.
fn step(series: &Series<'_>, x: Axis) -> Panel {
    let parts: [Part; 4] = [
        (style::COMPUTE, "compute", |p| p.compute_ms),
        (style::EXPOSED, "exposed communication", |p| p.exposed_communication_ms),
        (style::STRAGGLER, "straggler wait", |p| p.straggler_wait_ms),
        (style::INPUT, "input wait", |p| p.input_wait_ms),
    ];
    let places = series.curve(|_| Some(0.0)).points;
    let bar = |(point, (at, _)): (&&Point, (f64, f64))| Bar {
        at,
        pieces: parts.iter().map(|(color, _, of)| (*color, of(point))).collect(),
    };
    let bars: Vec<Bar> = series.points.iter().zip(places).map(bar).collect();
    let marks = series.marks(Quantity::StepMs, 1.0);
    let highest = series.points.iter().map(|p| p.step_ms).chain(marks.iter().map(|mark| mark.y));
    // Room above for the key.
    let y = Axis::from_zero("ms a step", Style::Plain, highest.fold(0.0, f64::max) * 1.35);
    let shown = parts.iter().filter(|(_, _, of)| series.points.iter().any(|p| of(p) > 0.0));
    let key = shown.map(|(color, name, _)| (*color, (*name).to_owned())).collect();
    Panel { bars, marks, key, ..Panel::new("Where a step goes", x, y, Vec::new()) }
}

/// What a step waits: for communication, stragglers and input.
fn waits(series: &[Series<'_>], x: Axis) -> Panel {
    let curves: Vec<Curve> =
        series.iter().map(|one| one.curve(|p| Some(p.step_ms - p.compute_ms))).collect();
    let high = values(&curves, &[]).fold(0.0, f64::max) * 1.1;
    let y = Axis::from_zero("ms a step", Style::Plain, high);
    Panel::new("Waiting for communication, stragglers, input", x, y, curves)
}

fn has_cost(series: &[Series<'_>]) -> bool {
    let whole = |point: &&Point| point.cost_usd.is_some() && point.time_to_train_min.is_some();
    series.iter().flat_map(|one| &one.points).all(whole)
}

/// Cost against time, with the first and the last of what runs along each curve: the lower left is best.
fn cost(series: &[Series<'_>], what: &str, along: impl Fn(&Point) -> u64) -> Panel {
    let place = |point: &Point| Some((point.time_to_train_min?, point.cost_usd?));
    let curves: Vec<Curve> = series
        .iter()
        .map(|one| Curve {
            color: one.color,
            stroke: Stroke::Dotted,
            points: one.points.iter().filter_map(|point| place(point)).collect(),
        })
        .collect();
    let note = |color: RGBColor, point: &Point| {
        let lines = vec![along(point).to_string()];
        Some(Note { at: place(point)?, color, lines, best: false })
    };
    let notes = series
        .iter()
        .flat_map(|one| one.points.iter().rev().map(|point| note(one.color, point)))
        .flatten()
        .collect();
    let minutes = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let x =
        Axis::minutes(&format!("time to train, at numbers of {what}"), minutes).spaced(TICK_GAP);
    let y = Axis::log("cost of a run", Style::Dollars, values(&curves, &[]));
    Panel { notes, ..Panel::new("Cost against time (lower left is best)", x, y, curves) }
}

/// Cost against what runs along the curves.
fn price(series: &[Series<'_>], x: Axis) -> Panel {
    let curves: Vec<Curve> = series.iter().map(|one| one.curve(|point| point.cost_usd)).collect();
    let y = Axis::log("whole run", Style::Dollars, values(&curves, &[]));
    Panel::new("Cost of a run", x, y, curves)
}

/// Time to train, or the time of a step where the scenario has no epochs.
fn duration(series: &[Series<'_>], x: Axis) -> Panel {
    let whole = series.iter().flat_map(|one| &one.points).all(|p| p.time_to_train_min.is_some());
    if !whole {
        let curves: Vec<Curve> = series.iter().map(|one| one.curve(|p| Some(p.step_ms))).collect();
        let marks: Vec<Mark> =
            series.iter().flat_map(|one| one.marks(Quantity::StepMs, 1.0)).collect();
        let high = values(&curves, &marks).fold(0.0, f64::max) * 1.15;
        let y = Axis::from_zero("ms", Style::Plain, high);
        return Panel { marks, ..Panel::new("Time of a step", x, y, curves) };
    }
    let curves: Vec<Curve> = series.iter().map(|one| one.curve(|p| p.time_to_train_min)).collect();
    let marks: Vec<Mark> =
        series.iter().flat_map(|one| one.marks(Quantity::TimeToTrainMin, 1.0)).collect();
    // Where the target may never be reached, the interval has no upper end.
    let ends = |point: &Point| {
        Some((point.time_to_train_min_low?, point.time_to_train_min_high.unwrap_or(f64::INFINITY)))
    };
    let bands: Vec<Band> = series.iter().filter_map(|one| one.band(ends)).collect();
    let y = Axis::minutes("whole run", values(&curves, &marks).chain(widths(&bands)));
    Panel { marks, bands, ..Panel::new("Time to train", x, y, curves) }
}

/// Accuracy at the end; none where it is the same everywhere or not forecast.
fn accuracy(series: &[Series<'_>], x: Axis) -> Option<Panel> {
    let curves: Vec<Curve> = series.iter().map(|one| one.curve(|p| p.top1_percent)).collect();
    let (low, high) = ends(values(&curves, &[]))?;
    if high - low < SAME_POINTS {
        return None;
    }
    let curves: Vec<Curve> = curves.into_iter().filter(|curve| !curve.points.is_empty()).collect();
    let marks: Vec<Mark> =
        series.iter().flat_map(|one| one.marks(Quantity::Top1Percent, 1.0)).collect();
    let interval = |point: &Point| Some((point.top1_percent_low?, point.top1_percent_high?));
    let bands: Vec<Band> = series.iter().filter_map(|one| one.band(interval)).collect();
    let range = ends(values(&curves, &marks).chain(widths(&bands)))?;
    let title = match x.title.split_once(',') {
        Some((batch, _)) => format!("Accuracy against {batch}"),
        None => format!("Accuracy against {}", x.title),
    };
    let y = Axis::linear("top-1 at the end", Style::Percent, range, 0.04);
    Some(Panel { marks, bands, ..Panel::new(&title, x, y, curves) })
}

/// The ends of intervals that have them.
fn widths(bands: &[Band]) -> impl Iterator<Item = f64> {
    let points = bands.iter().flat_map(|band| &band.points);
    points.flat_map(|&(_, low, high)| [low, high]).filter(|end| end.is_finite())
}

fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let wider = |ends: Option<(f64, f64)>, value: f64| {
        Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    };
    values.filter(|value| value.is_finite()).fold(None, wider)
}

#[cfg(test)]
#[path = "forecasts_tests.rs"]
mod tests;

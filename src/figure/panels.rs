//! What a figure shows, as data: panels with axes, curves, bars and published points.

use foretrain_sim::collective::Timing;
use foretrain_sim::forecast::{Forecast, Point, PublishedPoint, Quantity};
use plotters::style::RGBColor;

use super::axis::{Axis, Style};
use super::style;

/// A line through points (values, not coordinates).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    pub(super) color: RGBColor,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// A bar made of pieces, from the bottom up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) at: f64,
    pub(super) pieces: Vec<(RGBColor, f64)>,
}

/// One diagram.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) curves: Vec<Curve>,
    pub(super) bars: Vec<Bar>,
    /// Published points.
    pub(super) marks: Vec<(RGBColor, f64, f64)>,
    /// What colours mean in this panel alone.
    pub(super) key: Vec<(RGBColor, String)>,
}

/// How an entry of the legend is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Line,
    Dashes,
    Mark,
}

/// A whole figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) legend: Vec<(Sign, RGBColor, String)>,
    pub(super) panels: Vec<Panel>,
}

/// One curve of one forecast.
struct Series<'a> {
    name: String,
    color: RGBColor,
    mark_color: RGBColor,
    points: Vec<&'a Point>,
    /// Published rows, and whether they belong to other curves as well.
    published: Vec<(&'a PublishedPoint, bool)>,
}

impl Series<'_> {
    fn curve(&self, y: impl Fn(&Point) -> Option<f64>) -> Curve {
        let value = |point: &&Point| Some((f64::from(point.accelerators), y(point)?));
        let points = self.points.iter().filter_map(value).collect();
        Curve { color: self.color, dashed: false, points }
    }

    /// Published points, in the curve's colour where they belong to it alone.
    fn marks(&self, quantity: Quantity, factor: f64) -> Vec<(RGBColor, f64, f64)> {
        self.published
            .iter()
            .filter(|(row, _)| row.quantity == quantity)
            .map(|(row, shared)| {
                let color = if *shared { style::INK } else { self.mark_color };
                let value = factor * row.published * self.scale(row);
                (color, f64::from(row.accelerators), value)
            })
            .collect()
    }

    /// An efficiency published relative to several accelerators is drawn relative to one, by the
    /// forecast's own ratio of the two.
    fn scale(&self, row: &PublishedPoint) -> f64 {
        let point = self.points.iter().find(|point| point.accelerators == row.accelerators);
        match (row.quantity, point, row.predicted) {
            (Quantity::ScalingEfficiency, Some(point), Some(predicted)) if predicted > 0.0 => {
                point.scaling_efficiency / predicted
            }
            _ => 1.0,
        }
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

fn series(forecasts: &[Forecast]) -> Vec<Series<'_>> {
    let mut all: Vec<Series<'_>> = Vec::new();
    for forecast in forecasts {
        for points in forecast.points.chunk_by(|left, right| left.series == right.series) {
            let series = &points[0].series;
            let name = match (forecasts.len(), series.is_empty()) {
                (1, true) => "forecast".to_owned(),
                (1, false) => series.clone(),
                (_, true) => forecast.foretrain.scenario.clone(),
                (_, false) => format!("{}: {series}", forecast.foretrain.scenario),
            };
            let published = forecast.published.iter();
            all.push(Series {
                name,
                color: style::curve(all.len()),
                mark_color: style::curve(all.len()),
                points: points.iter().collect(),
                published: published
                    .filter(|row| row.series.as_ref() == Some(series))
                    .map(|row| (row, is_shared(row, forecast)))
                    .collect(),
            });
        }
    }
    if let [only] = all.as_mut_slice() {
        only.mark_color = style::PUBLISHED;
    }
    all
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
                dashed: false,
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
    Figure {
        title: title.to_owned(),
        subtitle: format!("foretrain {}, no scenario, no profile", env!("CARGO_PKG_VERSION")),
        legend: numbered.map(|(i, rows)| (Sign::Line, style::curve(i), name(rows))).collect(),
        panels: vec![
            panel("Time of one all-reduce", sizes(), time_axis, time),
            panel("Bus bandwidth", sizes(), bandwidth_axis, bandwidth),
        ],
    }
}

/// The figure of some forecasts (at least one).
pub(super) fn figure(forecasts: &[Forecast]) -> Figure {
    let series = series(forecasts);
    let counts = || {
        let values = series.iter().flat_map(|s| s.points.iter().map(|p| f64::from(p.accelerators)));
        Axis::counts("accelerators", values)
    };
    let mut panels = vec![throughput(&series, counts()), efficiency(&series, counts())];
    panels.push(match series.as_slice() {
        [only] => step(only, counts()),
        _ if has_cost(&series) => cost(&series),
        _ => waits(&series, counts()),
    });
    panels.push(duration(&series, counts()));
    Figure {
        title: title(forecasts),
        subtitle: subtitle(forecasts),
        legend: legend(&series),
        panels,
    }
}

fn title(forecasts: &[Forecast]) -> String {
    let names: Vec<&str> = forecasts.iter().map(|f| f.foretrain.scenario.as_str()).collect();
    match names.as_slice() {
        [one] => (*one).to_owned(),
        some => format!("{} forecasts compared", some.len()),
    }
}

fn subtitle(forecasts: &[Forecast]) -> String {
    let made: Vec<String> = forecasts
        .iter()
        .map(|forecast| {
            let header = &forecast.foretrain;
            let hash = header.scenario_hash.get(..12).unwrap_or(&header.scenario_hash);
            let profile = match &header.profile_hash {
                None => "no profile".to_owned(),
                Some(hash) => format!("profile {}", hash.get(..12).unwrap_or(hash)),
            };
            format!(
                "foretrain {}, scenario {hash}, {profile}, seed {}",
                header.version, header.seed
            )
        })
        .collect();
    made.join("; ")
}

fn legend(series: &[Series<'_>]) -> Vec<(Sign, RGBColor, String)> {
    let mut legend: Vec<_> =
        series.iter().map(|one| (Sign::Line, one.color, one.name.clone())).collect();
    legend.push((Sign::Dashes, style::IDEAL, "perfect scaling".to_owned()));
    if series.iter().any(|one| !one.published.is_empty()) {
        let color = if series.len() == 1 { style::PUBLISHED } else { style::INK };
        legend.push((Sign::Mark, color, "published".to_owned()));
    }
    legend
}

fn panel(title: &str, x: Axis, y: Axis, curves: Vec<Curve>) -> Panel {
    let title = title.to_owned();
    Panel { title, x, y, curves, bars: Vec::new(), marks: Vec::new(), key: Vec::new() }
}

fn values<'a>(curves: &'a [Curve], marks: &'a [(RGBColor, f64, f64)]) -> impl Iterator<Item = f64> {
    let points = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
    points.chain(marks.iter().map(|mark| mark.2))
}

fn throughput(series: &[Series<'_>], x: Axis) -> Panel {
    let marks: Vec<_> =
        series.iter().flat_map(|one| one.marks(Quantity::ImagesPerS, 1.0)).collect();
    let mut curves: Vec<Curve> = series
        .iter()
        .map(|one| Curve {
            color: style::IDEAL,
            dashed: true,
            ..one.curve(|point| Some(point.images_per_s / point.scaling_efficiency))
        })
        .collect();
    curves.extend(series.iter().map(|one| one.curve(|point| Some(point.images_per_s))));
    let y = Axis::log("images/s", Style::Count, values(&curves, &marks));
    Panel { marks, ..panel("Throughput", x, y, curves) }
}

fn efficiency(series: &[Series<'_>], x: Axis) -> Panel {
    let marks: Vec<_> =
        series.iter().flat_map(|one| one.marks(Quantity::ScalingEfficiency, 100.0)).collect();
    let ends = vec![(x.range.0, 100.0), (x.range.1, 100.0)];
    let mut curves = vec![Curve { color: style::IDEAL, dashed: true, points: ends }];
    curves.extend(series.iter().map(|one| one.curve(|p| Some(100.0 * p.scaling_efficiency))));
    let high = values(&curves, &marks).fold(100.0, f64::max) * 1.06;
    let y = Axis::from_zero("of as many single accelerators", Style::Percent, high);
    Panel { marks, ..panel("Scaling efficiency", x, y, curves) }
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
    let bar = |point: &&Point| Bar {
        at: f64::from(point.accelerators),
        pieces: parts.iter().map(|(color, _, of)| (*color, of(point))).collect(),
    };
    let bars: Vec<Bar> = series.points.iter().map(bar).collect();
    let marks = series.marks(Quantity::StepMs, 1.0);
    let highest = series.points.iter().map(|p| p.step_ms).chain(marks.iter().map(|mark| mark.2));
    // Room above for the key.
    let y = Axis::from_zero("ms a step", Style::Plain, highest.fold(0.0, f64::max) * 1.35);
    let shown = parts.iter().filter(|(_, _, of)| series.points.iter().any(|p| of(p) > 0.0));
    let key = shown.map(|(color, name, _)| (*color, (*name).to_owned())).collect();
    Panel { bars, marks, key, ..panel("Where a step goes", x, y, Vec::new()) }
}

/// What a step waits: for communication, stragglers and input.
fn waits(series: &[Series<'_>], x: Axis) -> Panel {
    let curves: Vec<Curve> =
        series.iter().map(|one| one.curve(|p| Some(p.step_ms - p.compute_ms))).collect();
    let high = values(&curves, &[]).fold(0.0, f64::max) * 1.1;
    let y = Axis::from_zero("ms a step", Style::Plain, high);
    panel("Waiting for communication, stragglers, input", x, y, curves)
}

fn has_cost(series: &[Series<'_>]) -> bool {
    series.iter().flat_map(|one| &one.points).all(|p| p.cost_usd.is_some())
}

/// Cost against time: the lower left is best.
fn cost(series: &[Series<'_>]) -> Panel {
    let curves: Vec<Curve> = series
        .iter()
        .map(|one| {
            let point = |p: &&Point| Some((p.time_to_train_min?, p.cost_usd?));
            let points = one.points.iter().filter_map(point).collect();
            Curve { color: one.color, dashed: false, points }
        })
        .collect();
    let minutes = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let x = Axis::minutes("time to train", minutes);
    let y = Axis::log("cost of a run", Style::Dollars, values(&curves, &[]));
    panel("Cost against time (lower left is best)", x, y, curves)
}

/// Time to train, or the time of a step where the scenario has no epochs.
fn duration(series: &[Series<'_>], x: Axis) -> Panel {
    let whole = series.iter().flat_map(|one| &one.points).all(|p| p.time_to_train_min.is_some());
    if !whole {
        let curves: Vec<Curve> = series.iter().map(|one| one.curve(|p| Some(p.step_ms))).collect();
        let marks: Vec<_> =
            series.iter().flat_map(|one| one.marks(Quantity::StepMs, 1.0)).collect();
        let high = values(&curves, &marks).fold(0.0, f64::max) * 1.15;
        let y = Axis::from_zero("ms", Style::Plain, high);
        return Panel { marks, ..panel("Time of a step", x, y, curves) };
    }
    let curves: Vec<Curve> = series.iter().map(|one| one.curve(|p| p.time_to_train_min)).collect();
    let marks: Vec<_> =
        series.iter().flat_map(|one| one.marks(Quantity::TimeToTrainMin, 1.0)).collect();
    let y = Axis::minutes("whole run", values(&curves, &marks));
    Panel { marks, ..panel("Time to train", x, y, curves) }
}

#[cfg(test)]
mod tests {
    use foretrain_sim::forecast::{Engine, forecast};
    use foretrain_sim::scenario::{Overrides, Scenario};

    use super::*;

    fn forecast_of(published: &str) -> Forecast {
        let text = format!(
            r#"
            name = "test"
            [cluster]
            node = "dgx-1-v100"
            [training]
            model = "resnet50"
            per_accelerator_batch = 32
            [simulation]
            steps = 1
            [sweep]
            accelerators = [8, 64]
            algorithm = ["ring", "hierarchical"]
            {published}
            "#
        );
        let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
        forecast(&scenario, Engine::Arrays, || {}).unwrap()
    }

    #[test]
    fn a_published_point_beside_several_curves_has_no_curves_colour() {
        let point = "[[published]]\naccelerators = 64\nsource = \"x\"\n";
        let forecast = forecast_of(&format!("{point}images_per_s = \"9000 images/s\""));
        let figure = figure(std::slice::from_ref(&forecast));
        let marks = &figure.panels[0].marks;
        assert_eq!(marks.len(), 2);
        assert!(marks.iter().all(|mark| *mark == (style::INK, 64.0, 9000.0)));
        assert_eq!(figure.legend.len(), 4);
    }

    #[test]
    fn an_efficiency_relative_to_eight_is_drawn_relative_to_one() {
        let point = "[[published]]\naccelerators = 64\nsource = \"x\"\n";
        let relative = "scaling_efficiency = \"90 %\"\nrelative_to = 8";
        let forecast = forecast_of(&format!("{point}{relative}"));
        let figure = figure(std::slice::from_ref(&forecast));
        let of_eight = forecast.points[0].scaling_efficiency;
        let (_, _, drawn) = figure.panels[1].marks[0];
        assert!((drawn - 90.0 * of_eight).abs() < 1e-9, "{drawn}");
    }
}

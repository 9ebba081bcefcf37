//! Tables for people, and CSV for spreadsheets.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use foretrain_sim::forecast::{Forecast, Header, Point, PublishedPoint, Quantity};

use crate::failure::{Failure, complain};

/// Digits of a hash that are shown to people.
const HASH_DIGITS: usize = 12;

/// A column of the forecast's table: its heading, and what it shows of a point.
struct Column {
    heading: &'static str,
    show: fn(&Point) -> Option<String>,
}

const COLUMNS: [Column; 22] = [
    Column { heading: "accele-\nrators", show: |p| Some(thousands(f64::from(p.accelerators), 0)) },
    Column { heading: "batch\neach", show: |p| Some(p.per_accelerator_batch.to_string()) },
    Column { heading: "global\nbatch", show: |p| Some(thousands(p.global_batch as f64, 0)) },
    Column { heading: "step\nms", show: |p| Some(ms(p.step_ms)) },
    Column { heading: "p99\nms", show: |p| Some(ms(p.step_ms_p99)) },
    Column { heading: "compute\nms", show: |p| Some(ms(p.compute_ms)) },
    Column { heading: "exposed\ncomm. ms", show: |p| Some(ms(p.exposed_communication_ms)) },
    Column { heading: "straggler\nwait ms", show: |p| Some(ms(p.straggler_wait_ms)) },
    Column { heading: "input\nwait ms", show: |p| Some(ms(p.input_wait_ms)) },
    Column { heading: "images/s", show: |p| Some(thousands(p.images_per_s, 0)) },
    Column { heading: "effi-\nciency", show: |p| Some(percent(100.0 * p.scaling_efficiency)) },
    Column { heading: "accel.\nbusy", show: |p| Some(percent(p.accelerator_busy_percent)) },
    Column { heading: "CPU\nbusy", show: |p| p.input_cpu_busy_percent.map(percent) },
    Column { heading: "busiest\nlink", show: |p| p.network_busy_percent.map(percent) },
    Column { heading: "epochs", show: |p| p.epochs.filter(|_| p.epochs_low.is_some()).map(epochs) },
    Column { heading: "top-1\n%", show: top1 },
    Column { heading: "time to\ntrain", show: |p| p.time_to_train_min.map(minutes) },
    Column { heading: "95 %\ninterval", show: interval },
    Column { heading: "good-\nput", show: |p| p.goodput_percent.map(percent) },
    Column { heading: "check-\npoints", show: |p| p.checkpoint_interval_min.map(minutes) },
    Column { heading: "cost\nUSD", show: |p| p.cost_usd.map(amount) },
    Column { heading: "energy\nkWh", show: |p| p.energy_kwh.map(amount) },
];

/// The whole forecast: header, a table a curve, published points, inputs.
pub(crate) fn forecast(forecast: &Forecast) -> String {
    let mut text = header(&forecast.foretrain);
    for curve in forecast.points.chunk_by(|left, right| left.series == right.series) {
        if !curve[0].series.is_empty() {
            text += &format!("\n{}\n", curve[0].series);
        }
        text += &points(curve);
    }
    if !forecast.published.is_empty() {
        text += "\nPublished measurements\n";
        text += &published(&forecast.published);
    }
    text += "\nRests on\n";
    for input in &forecast.inputs {
        let variant = input.variant.as_ref().map(|name| format!(" [{name}]")).unwrap_or_default();
        text += &format!("  {}{variant}: {}; {}\n", input.what, input.value, input.from);
    }
    text
}

/// Who made a result: tool, scenario, hash, seed.
pub(crate) fn header(header: &Header) -> String {
    let Header { version, scenario, scenario_hash, seed, engine, steps, .. } = header;
    let hash = short(scenario_hash);
    let profile = match &header.profile_hash {
        None => "no profile".to_owned(),
        Some(hashes) => {
            let short: Vec<&str> = hashes.split(", ").map(short).collect();
            format!("profile {}", short.join(", "))
        }
    };
    format!(
        "{scenario}\nforetrain {version}, scenario {hash}, {profile}, seed {seed}, \
         {steps} steps a point, engine {engine}\n"
    )
}

/// The digits of a hash that are shown to people.
pub(crate) fn short(hash: &str) -> &str {
    &hash[..HASH_DIGITS.min(hash.len())]
}

fn points(points: &[Point]) -> String {
    let mut table = plain();
    let shown: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| points.iter().any(|point| (column.show)(point).is_some()))
        .collect();
    table.set_header(shown.iter().map(|column| right(column.heading)));
    for point in points {
        table.add_row(shown.iter().map(|column| right(&(column.show)(point).unwrap_or_default())));
    }
    format!("{}\n", table.trim_fmt())
}

fn published(rows: &[PublishedPoint]) -> String {
    let mut table = plain();
    let several = rows.iter().any(|row| row.series.as_ref().is_some_and(|name| !name.is_empty()));
    let mut heading = vec![right("accelerators")];
    heading.extend(several.then(|| Cell::new("curve")));
    heading.extend([Cell::new("quantity"), right("published"), right("forecast"), right("error")]);
    heading.push(Cell::new("source"));
    table.set_header(heading);
    for row in rows {
        let value = |value: f64| match row.quantity {
            Quantity::ImagesPerS => thousands(value, 0),
            Quantity::TimeToTrainMin => minutes(value),
            Quantity::ScalingEfficiency => percent(100.0 * value),
            Quantity::StepMs => ms(value),
            Quantity::Top1Percent => format!("{value:.1} %"),
        };
        let error = match row.quantity {
            // Percent of percent nobody understands.
            Quantity::Top1Percent => {
                row.predicted.map(|predicted| format!("{:+.1} points", predicted - row.published))
            }
            _ => row.error_percent.map(|error| format!("{error:+.1} %")),
        };
        let mut cells = vec![right(&thousands(f64::from(row.accelerators), 0))];
        cells.extend(several.then(|| Cell::new(row.series.clone().unwrap_or_default())));
        cells.extend([
            Cell::new(row.quantity),
            right(&value(row.published)),
            right(&row.predicted.map(value).unwrap_or_default()),
            right(&error.unwrap_or_default()),
            Cell::new(&row.source),
        ]);
        table.add_row(cells);
    }
    format!("{}\n", table.trim_fmt())
}

/// A table without borders, as wide as it needs.
pub(crate) fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// A cell that ends at the column's right edge.
pub(crate) fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Prints the forecast's warnings on stderr.
pub(crate) fn warn(forecast: &Forecast) {
    for warning in &forecast.warnings {
        let series = warning.series.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        complain(&format!("warning: {series}{}", warning.message));
    }
}

/// CSV with the keys of the first row as heading; lists do not fit a cell, and are left out.
pub(crate) fn csv(rows: &[serde_json::Map<String, serde_json::Value>]) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Failure::Runtime(format!("failed to write CSV: {error}"));
    if let Some(first) = rows.first() {
        let cells = first.iter().filter(|(_, value)| !value.is_array());
        writer.write_record(cells.map(|(key, _)| key)).map_err(failed)?;
    }
    for row in rows {
        let values = row.values().filter(|value| !value.is_array());
        let cells = values.map(|value| match value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        writer.write_record(cells).map_err(failed)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| Failure::Runtime(format!("failed to write CSV: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A number with groups of three digits, so that thousands can be read.
pub(crate) fn thousands(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", groups.join(","))
}

pub(crate) fn ms(value: f64) -> String {
    thousands(value, if value >= 1000.0 { 0 } else { 2 })
}

pub(crate) fn amount(value: f64) -> String {
    thousands(value, if value >= 100.0 { 0 } else { 2 })
}

fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

/// Epochs, whole ones without a fraction.
pub(crate) fn epochs(epochs: f64) -> String {
    if epochs.fract() == 0.0 { thousands(epochs, 0) } else { thousands(epochs, 1) }
}

/// Accuracy with half its interval, where it has one.
fn top1(point: &Point) -> Option<String> {
    let top1 = point.top1_percent?;
    Some(match (point.top1_percent_low, point.top1_percent_high) {
        (Some(low), Some(high)) if high > low => format!("{top1:.1} ± {:.1}", (high - low) / 2.0),
        _ => format!("{top1:.1}"),
    })
}

/// From when to when training ends.
fn interval(point: &Point) -> Option<String> {
    let low = minutes(point.time_to_train_min_low?);
    Some(match point.time_to_train_min_high {
        Some(high) => format!("{low} to {}", minutes(high)),
        None => format!("from {low}"),
    })
}

/// Minutes as people say them.
pub(crate) fn minutes(minutes: f64) -> String {
    match minutes {
        m if m < 1.0 => format!("{:.0} s", m * 60.0),
        m if m < 120.0 => format!("{m:.1} min"),
        m if m < 48.0 * 60.0 => format!("{:.1} h", m / 60.0),
        m => format!("{:.1} days", m / 60.0 / 24.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(thousands(1_234_567.0, 0), "1,234,567");
        assert_eq!(thousands(12.345, 2), "12.35");
        assert_eq!(thousands(-1234.5, 1), "-1,234.5");
        assert_eq!(thousands(999.0, 0), "999");
    }

    #[test]
    fn times_are_said_in_fitting_units() {
        assert_eq!(minutes(0.5), "30 s");
        assert_eq!(minutes(6.6), "6.6 min");
        assert_eq!(minutes(600.0), "10.0 h");
        assert_eq!(minutes(4320.0), "3.0 days");
    }
}

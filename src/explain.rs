//! What `simulate --explain` shows: from perfect scaling to the forecast, part by part.

use comfy_table::Cell;
use foretrain_sim::forecast::{Forecast, Point};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::figure::waterfall::Waterfall;
use crate::output;
use crate::table::{plain, right, thousands};

/// A table a point.
pub(crate) fn text(forecast: &Forecast) -> String {
    let mut text =
        "\nFrom perfect scaling to the forecast, for one global batch of the whole run\n"
            .to_owned();
    for point in &forecast.points {
        let Some(explained) = &point.explanation else { continue };
        text += &format!("\n{}; perfect scaling of {}\n", title(point), explained.reference);
        let mut table = plain();
        table.set_header([Cell::new("part"), right("ms"), right("of perfect"), right("images/s")]);
        let mut row = |name: &str, ms: String, share: f64, images_per_s: f64| {
            table.add_row([
                Cell::new(name),
                right(&ms),
                right(&format!("{:.1} %", 100.0 * share / explained.perfect_ms)),
                right(&thousands(images_per_s, 0)),
            ]);
        };
        let (perfect, all) = (explained.perfect_ms, explained.ms);
        row("perfect scaling", format!("{perfect:.3}"), perfect, explained.perfect_images_per_s);
        for part in &explained.parts {
            row(part.part.title(), format!("{:+.3}", part.ms), part.ms, part.images_per_s);
        }
        row("forecast", format!("{all:.3}"), all, explained.images_per_s);
        text += &format!("{}\n", table.trim_fmt());
    }
    text
}

fn title(point: &Point) -> String {
    let series =
        if point.series.is_empty() { String::new() } else { format!("{}, ", point.series) };
    format!(
        "{series}{} accelerators, {} images each",
        thousands(f64::from(point.accelerators), 0),
        point.per_accelerator_batch
    )
}

/// What the figure shows.
pub(crate) fn waterfalls(forecast: &Forecast) -> Vec<Waterfall> {
    let of_point = |point: &Point| {
        let explained = point.explanation.as_ref()?;
        Some(Waterfall {
            title: title(point),
            perfect_ms: explained.perfect_ms,
            perfect_images_per_s: explained.perfect_images_per_s,
            parts: explained
                .parts
                .iter()
                .map(|part| (part.part.title().to_owned(), part.ms))
                .collect(),
            ms: explained.ms,
            images_per_s: explained.images_per_s,
        })
    };
    forecast.points.iter().filter_map(of_point).collect()
}

/// One object a part of a point.
pub(crate) fn rows(forecast: &Forecast) -> Result<Vec<Map<String, Value>>, Failure> {
    let mut rows = Vec::new();
    for point in &forecast.points {
        let Some(explained) = &point.explanation else { continue };
        for part in &explained.parts {
            let mut row = Map::new();
            row.insert("series".to_owned(), point.series.clone().into());
            row.insert("accelerators".to_owned(), point.accelerators.into());
            row.insert("per_accelerator_batch".to_owned(), point.per_accelerator_batch.into());
            row.insert("perfect_ms".to_owned(), explained.perfect_ms.into());
            row.extend(output::object(part)?);
            rows.push(row);
        }
    }
    Ok(rows)
}

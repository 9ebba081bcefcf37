//! The report as text for people.

use comfy_table::Cell;

use super::Report;
use crate::table::{plain, right};

/// Longer tables are shown by their groups alone.
const ROWS_MAX: usize = 100;

pub(super) fn report(report: &Report) -> String {
    let made = &report.foretrain;
    let mut text = format!(
        "{}: published values against {}\nforetrain {}, no scenario, no profile\n",
        made.published, made.predictor, made.version
    );
    let is_points = report.cases.iter().any(|case| case.error_points.is_some());
    let unit = if is_points { "points" } else { "%" };
    if report.cases.len() > ROWS_MAX {
        let rows = report.cases.len();
        text += &format!("\n{rows} values; each by --format csv\n");
    } else if !report.cases.is_empty() {
        let mut table = plain();
        let mut heading = vec![Cell::new("id")];
        heading.extend(["line", "published", "foretold", "95 % from", "to", "error"].map(right));
        table.set_header(heading);
        for case in &report.cases {
            let error = match case.error_points {
                Some(points) => format!("{points:+.2} points"),
                None => format!("{:+.1} %", case.error_percent),
            };
            table.add_row([
                Cell::new(&case.id),
                right(&case.line.to_string()),
                right(&format!("{:.2}", case.published)),
                right(&format!("{:.2}", case.predicted)),
                right(&format!("{:.2}", case.low)),
                right(&format!("{:.2}", case.high)),
                right(&error),
            ]);
        }
        text += &format!("\n{}\n", table.trim_fmt());
    }
    if !report.groups.is_empty() {
        let mut table = plain();
        let mut heading = vec![Cell::new("group")];
        heading.extend(["values", "mean error", "largest", "inside 95 %"].map(right));
        table.set_header(heading);
        for (name, figures) in &report.groups {
            table.add_row([
                Cell::new(name),
                right(&figures.cases.to_string()),
                right(&format!("{:.2} {unit}", figures.mean_abs_error)),
                right(&format!("{:.2} {unit}", figures.max_abs_error)),
                right(&format!("{:.0} %", 100.0 * figures.covered)),
            ]);
        }
        text += &format!("\nErrors\n{}\n", table.trim_fmt());
    }
    if !report.not_predicted.is_empty() {
        text += "\nNot predicted\n";
        for rows in report.not_predicted.chunk_by(|a, b| a.id == b.id && a.reason == b.reason) {
            let (first, last) = (&rows[0], &rows[rows.len() - 1]);
            let lines = match rows.len() {
                1 => format!("line {}", first.line),
                _ => format!("lines {} to {}", first.line, last.line),
            };
            text += &format!("  {lines}, {}: {}\n", first.id, first.reason);
        }
    }
    text
}

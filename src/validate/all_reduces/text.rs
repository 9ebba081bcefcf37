//! The report as text for people.

use comfy_table::Cell;

use super::report::{Case, Report, SetErrors};
use crate::table::{plain, right, thousands};

/// Each set with its rows, then all sets, then what could not be predicted.
pub(super) fn report(report: &Report) -> String {
    let made = &report.foretrain;
    let mut text = format!(
        "{}: published times of all-reduces against {}\nforetrain {}, no scenario, no profile\n",
        made.published, made.predictor, made.version
    );
    for set in &report.sets {
        text += &format!("\n{}\n{}", set.set, cases(report, set));
        text += &format!("{} %\n", errors(set));
    }
    if !report.sets.is_empty() {
        text += &format!("\nErrors, of the published times\n{}", summary(report));
    }
    if !report.not_predicted.is_empty() {
        text += "\nNot predicted\n";
        for row in &report.not_predicted {
            text += &format!("  line {}, {} ({}): {}\n", row.line, row.id, row.set, row.reason);
        }
    }
    text
}

fn errors(set: &SetErrors) -> String {
    let SetErrors { mean_abs_error_percent: mean, median_abs_error_percent: median, .. } = set;
    let worst = set.worst_error_percent;
    format!(" error: mean {mean:.1} %, median {median:.1} %, worst {worst:+.1}")
}

fn cases(report: &Report, set: &SetErrors) -> String {
    let mut table = plain();
    let mut heading = ["id", "accelerators", "size B", "published us", "predicted us", "error"]
        .map(right)
        .to_vec();
    heading.extend([Cell::new("algorithm"), Cell::new("protocol"), right("NCCL")]);
    table.set_header(heading);
    for case in report.of(&set.set) {
        let Case { accelerators, published, predicted, error_percent, .. } = case;
        table.add_row([
            right(&case.id),
            right(&accelerators.to_string()),
            right(&thousands(case.message_bytes as f64, 0)),
            right(&thousands(*published, 1)),
            right(&thousands(*predicted, 1)),
            right(&format!("{error_percent:+.1} %")),
            Cell::new(case.algorithm),
            Cell::new(case.protocol),
            right(&case.nccl_version.to_string()),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

fn summary(report: &Report) -> String {
    let mut table = plain();
    let mut heading = vec![Cell::new("set")];
    heading.extend(["rows", "mean", "median", "worst"].map(right));
    heading.push(Cell::new("of row"));
    table.set_header(heading);
    let percent = |value: f64| right(&format!("{value:.1} %"));
    for set in &report.sets {
        table.add_row([
            Cell::new(&set.set),
            right(&set.cases.to_string()),
            percent(set.mean_abs_error_percent),
            percent(set.median_abs_error_percent),
            right(&format!("{:+.1} %", set.worst_error_percent)),
            Cell::new(&set.worst_id),
        ]);
    }
    let worst = report
        .sets
        .iter()
        .max_by(|a, b| a.max_abs_error_percent.total_cmp(&b.max_abs_error_percent));
    if let (Some(mean), Some(median), Some(worst)) =
        (report.mean_abs_error_percent, report.median_abs_error_percent, worst)
    {
        table.add_row([
            Cell::new("all"),
            right(&report.cases.len().to_string()),
            percent(mean),
            percent(median),
            right(&format!("{:+.1} %", worst.worst_error_percent)),
            Cell::new(&worst.worst_id),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

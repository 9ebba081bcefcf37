//! Published times of all-reduces against NCCL's cost model.

mod predict;
mod report;
mod rows;
mod text;

use foretrain_calibrate::published::table::{Problem, Table, read_leniently};

use crate::cli::ValidateArguments;
use crate::failure::Failure;
use crate::figure;
use crate::figure::validation::SetCurve;
use crate::output::OutputFile;

use predict::{Prediction, predict};
use report::Report;
pub(super) use rows::COLUMNS;
use rows::Row;

pub(super) fn run(
    arguments: &ValidateArguments,
    name: &str,
    published: &Table,
    plot: Option<(figure::Kind, OutputFile)>,
) -> Result<(), Failure> {
    let (rows, unread) = read_leniently(published, rows::read)
        .map_err(|problem: Problem| super::invalid(name, &problem))?;
    let predicted: Vec<(Row, Result<Prediction, String>)> = rows
        .into_iter()
        .map(|row| {
            let prediction = predict(&row);
            (row, prediction)
        })
        .collect();
    let report = Report::new(name, &predicted, unread);
    if let Some((kind, file)) = plot {
        file.finish(&figure::draw_validation(&curves(&predicted, &report), kind)?)?;
    }
    let not_predicted = report.not_predicted.iter().map(|row| (row.line, row.reason.as_str()));
    let shown = (&report, || text::report(&report));
    super::print(arguments.format, name, shown, report.cases.iter(), not_predicted)?;
    super::check(arguments, report.mean_abs_error_percent)
}

/// What the figure shows of each set.
fn curves(predicted: &[(Row, Result<Prediction, String>)], report: &Report) -> Vec<SetCurve> {
    let curve = |set: &report::SetErrors| SetCurve {
        name: set.set.clone(),
        mean_abs_error_percent: set.mean_abs_error_percent,
        points: predicted
            .iter()
            .filter(|(row, _)| row.set == set.set)
            .filter_map(|(row, prediction)| {
                let prediction = prediction.as_ref().ok()?;
                Some(figure::validation::Point {
                    message_bytes: row.message_bytes,
                    accelerators: row.accelerators?,
                    published_us: row.time_us?,
                    predicted_us: prediction.time_us,
                    predicted_by: format!("{} {}", prediction.algorithm, prediction.protocol),
                })
            })
            .collect(),
    };
    report.sets.iter().map(curve).collect()
}

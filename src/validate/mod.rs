//! `foretrain validate FILE`: published measurements against predictions.

mod all_reduces;
mod convergence;
mod fusion;
mod kind;
mod runs;

use foretrain_calibrate::published::errors::NotPredicted;
use foretrain_calibrate::published::table::{Problem, Table, Unread};

use serde::Serialize;

use crate::cli::{Format, ValidateArguments};
use crate::failure::{Failure, complain};
use crate::output::{self, OutputFile};
use crate::{figure, table};

use kind::Kind;

pub(crate) fn run(arguments: &ValidateArguments) -> Result<(), Failure> {
    let plot = match &arguments.plot {
        Some(path) => Some((figure::Kind::of(path)?, OutputFile::create(path)?)),
        None => None,
    };
    let name = output::shown(&arguments.published);
    let text = output::read_text(&arguments.published)?;
    let table = Table::read(&text).map_err(|problem| {
        // What is no such file at all says so by its first line, whatever is wrong further on.
        let heading = text.lines().next().unwrap_or_default();
        match Table::read(heading) {
            Ok(heading) if !Kind::is_any(&heading) => Kind::of(&heading)
                .err()
                .map_or_else(|| invalid(&name, &problem), |unknown| invalid(&name, &unknown)),
            _ => invalid(&name, &problem),
        }
    })?;
    let kind = Kind::of(&table).map_err(|problem| invalid(&name, &problem))?;
    if kind != Kind::Runs
        && let Some(flag) = arguments.only_for_runs(kind.has_families())
    {
        let message = format!("{flag} is not for files of {}, as {name} is one", kind.name());
        return Err(Failure::Usage(message));
    }
    match kind {
        Kind::AllReduces => all_reduces::run(arguments, &name, &table, plot),
        Kind::Runs => runs::run(arguments, &name, &table, plot),
        Kind::Fusion => fusion::run(arguments, &name, &table, plot),
        Kind::Epochs | Kind::Accuracy | Kind::Curves => {
            convergence::run(arguments, (&name, &text), kind, &table, plot)
        }
    }
}

/// Prints a report in the format that was asked for; `cases` are the rows of its CSV, beside which what
/// was not predicted, by line and reason, is a warning.
fn print<'a, C: Serialize + 'a>(
    format: Format,
    name: &str,
    (report, text): (&impl Serialize, impl FnOnce() -> String),
    cases: impl Iterator<Item = &'a C>,
    not_predicted: impl Iterator<Item = (u64, &'a str)>,
) -> Result<(), Failure> {
    match format {
        Format::Table => output::print(&text()),
        Format::Json => output::print(&output::json(report)?),
        Format::Csv => {
            for (line, reason) in not_predicted {
                complain(&format!("warning: {name}:{line}: not predicted: {reason}"));
            }
            let cases = cases.map(output::object).collect::<Result<Vec<_>, Failure>>()?;
            output::print(&table::csv(&cases)?)
        }
    }
}

/// Rows that could not be read, for the list of what was not predicted.
fn unread(rows: Vec<Unread>) -> Vec<NotPredicted> {
    let row =
        |Unread { line, id, reason }| NotPredicted { line, id, family: String::new(), reason };
    rows.into_iter().map(row).collect()
}

fn invalid(name: &str, problem: &Problem) -> Failure {
    Failure::Invalid(format!("{name}:{problem}"))
}

/// Fails where the mean error is above the threshold that was asked for, or nothing was predicted.
fn check(
    arguments: &ValidateArguments,
    mean_abs_error_percent: Option<f64>,
) -> Result<(), Failure> {
    let Some(threshold) = arguments.threshold else { return Ok(()) };
    match mean_abs_error_percent {
        Some(mean) if mean <= threshold => Ok(()),
        Some(mean) => Err(Failure::Missed(format!(
            "the mean error is {mean:.2} %, above the threshold of {threshold} %"
        ))),
        None => Err(Failure::Missed("nothing was predicted that could be compared".to_owned())),
    }
}

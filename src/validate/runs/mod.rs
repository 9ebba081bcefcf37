//! Published training runs against the simulator.

mod text;

use foretrain_calibrate::published::errors::{Case, Errors};
use foretrain_calibrate::published::records::RateTable;
use foretrain_calibrate::published::scaling::{self, Run, Shared};
use foretrain_calibrate::published::table::{Table, read_leniently};
use foretrain_calibrate::published::validation::{Predictor, RATE, Validation, anchor_of, fit_all};
use serde::Serialize;

use super::invalid;
use crate::cli::ValidateArguments;
use crate::failure::Failure;
use crate::figure;
use crate::output::{self, OutputFile};

/// Everything that is reported.
#[derive(Debug, Serialize)]
struct Report {
    foretrain: Made,
    #[serde(flatten)]
    validation: Validation,
    /// Over all cases, of whatever quantity.
    mean_abs_error_percent: Option<f64>,
    median_abs_error_percent: Option<f64>,
    max_abs_error_percent: Option<f64>,
}

/// What made the report.
#[derive(Debug, Serialize)]
struct Made {
    version: &'static str,
    published: String,
    predictor: &'static str,
}

pub(super) fn run(
    arguments: &ValidateArguments,
    name: &str,
    published: &Table,
    plot: Option<(figure::Kind, OutputFile)>,
) -> Result<(), Failure> {
    let (runs, unread) =
        read_leniently(published, Run::read_all).map_err(|problem| invalid(name, &problem))?;
    if let Some(id) = &arguments.scenario {
        return output::print(&scenario(name, &runs, id)?);
    }
    let tables = tables(arguments)?;
    if arguments.fit {
        let (fit, scatter) = fit_all(&runs, &tables);
        if fit.runs == 0 {
            let message = format!("{name}: no run has its anchor in the file: nothing to fit to");
            return Err(Failure::Refused(message));
        }
        return output::print(&toml(&fit.overheads(scatter))?);
    }
    let predictor = match (arguments.leave_one_family_out, arguments.datasheets) {
        (true, _) => Predictor::LeaveOneFamilyOut,
        (_, true) => Predictor::Datasheets,
        _ => Predictor::Shipped,
    };
    let mut validation = Validation::new(&runs, predictor, &tables);
    validation.not_predicted.extend(super::unread(unread));
    validation.not_predicted.sort_by_key(|row| row.line);
    let all = Errors::of("all", &validation.cases);
    let report = Report {
        foretrain: Made {
            version: env!("CARGO_PKG_VERSION"),
            published: name.to_owned(),
            predictor: predictor.describe(),
        },
        mean_abs_error_percent: all.as_ref().map(|errors| errors.mean_abs_error_percent),
        median_abs_error_percent: all.as_ref().map(|errors| errors.median_abs_error_percent),
        max_abs_error_percent: all.as_ref().map(|errors| errors.max_abs_error_percent),
        validation,
    };
    if let Some((kind, file)) = plot {
        file.finish(&figure::draw_runs(&drawn(&report, &runs), kind)?)?;
    }
    let not_predicted =
        report.validation.not_predicted.iter().map(|row| (row.line, row.reason.as_str()));
    let shown = (&report, || text::report(&report));
    super::print(
        arguments.format,
        name,
        shown,
        report.validation.cases.iter().chain(&report.validation.without_anchor),
        not_predicted,
    )?;
    let worst = report.validation.quantities.iter().map(|errors| errors.mean_abs_error_percent);
    super::check(arguments, worst.reduce(f64::max))
}

/// The tables that overheads are fitted to beside the runs.
fn tables(arguments: &ValidateArguments) -> Result<Vec<RateTable>, Failure> {
    let Some(path) = &arguments.records else { return Ok(RateTable::shipped().to_vec()) };
    let name = output::shown(path);
    Table::read(&output::read_text(path)?)
        .and_then(|table| RateTable::read_all(&table))
        .map_err(|problem| invalid(&name, &problem))
}

/// The scenario of a row, with its anchor.
fn scenario(name: &str, runs: &[Run], id: &str) -> Result<String, Failure> {
    let run = runs.iter().find(|run| run.id == id).ok_or_else(|| {
        let ids: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
        Failure::Usage(format!("{name} has no row `{id}`; it has {}", ids.join(", ")))
    })?;
    let anchor = anchor_of(runs, run);
    let spec = scaling::anchored_spec(run, anchor, &Shared::shipped())
        .map_err(|reason| Failure::Invalid(format!("{name}:{}: {reason}", run.line)))?;
    toml(&spec)
}

fn toml(value: &impl Serialize) -> Result<String, Failure> {
    ::toml::to_string(value).map_err(|error| Failure::Runtime(format!("failed to write: {error}")))
}

/// What the figure shows.
fn drawn(report: &Report, runs: &[Run]) -> figure::runs::RunsFigure {
    let perfect = |case: &Case| {
        let run = runs.iter().find(|run| run.id == case.id)?;
        scaling::perfect_rate(run, anchor_of(runs, run)?)
    };
    let cases: Vec<&Case> =
        report.validation.cases.iter().filter(|case| case.quantity == RATE).collect();
    figure::runs::RunsFigure {
        title: format!("{}: predicted and published training rates", report.foretrain.published),
        subtitle: report.foretrain.predictor.to_owned(),
        x_of_errors: "accelerators".to_owned(),
        unit: "images/s".to_owned(),
        logarithmic: true,
        points: cases
            .into_iter()
            .map(|case| figure::runs::RunPoint {
                family: case.family.clone(),
                accelerators: f64::from(case.accelerators.unwrap_or(1)),
                published: case.published,
                predicted: case.predicted,
                low: case.low,
                high: case.high,
                perfect: perfect(case),
            })
            .collect(),
    }
}

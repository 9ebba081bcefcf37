//! Published epochs to target, final accuracies and learning curves against the laws of convergence.
//!
//! What is foretold is never among what its law was fitted to: rows that come with this version are
//! left out one by one, other rows are foretold by all that come with it.

mod text;

use std::collections::BTreeMap;

use foretrain_calibrate::published::convergence::{
    self as laws, FitError, Published, accuracy, curves, epochs,
};
use foretrain_calibrate::published::errors::{NotPredicted, median};
use foretrain_calibrate::published::table::{Problem, Table, Unread, read_leniently};
use foretrain_sim::convergence::Convergence;
use serde::Serialize;

use super::invalid;
use super::kind::Kind;
use crate::cli::ValidateArguments;
use crate::failure::Failure;
use crate::figure;
use crate::output::{self, OutputFile};

/// Everything that is reported.
#[derive(Debug, Serialize)]
struct Report {
    foretrain: Made,
    cases: Vec<Case>,
    /// Errors of each group; in points of top-1, or in percent of epochs.
    groups: BTreeMap<&'static str, laws::Figures>,
    not_predicted: Vec<NotPredicted>,
    mean_abs_error_percent: Option<f64>,
    median_abs_error_percent: Option<f64>,
    max_abs_error_percent: Option<f64>,
    /// For accuracies, in points of top-1.
    mean_abs_error_points: Option<f64>,
}

/// What made the report.
#[derive(Debug, Serialize)]
struct Made {
    version: &'static str,
    published: String,
    predictor: String,
}

/// A published value and what is foretold of it.
#[derive(Debug, Serialize)]
struct Case {
    id: String,
    line: u64,
    quantity: &'static str,
    published: f64,
    predicted: f64,
    low: f64,
    high: f64,
    error_percent: f64,
    /// For accuracies.
    error_points: Option<f64>,
    groups: Vec<&'static str>,
}

pub(super) fn run(
    arguments: &ValidateArguments,
    (name, text): (&str, &str),
    kind: Kind,
    published: &Table,
    plot: Option<(figure::Kind, OutputFile)>,
) -> Result<(), Failure> {
    if arguments.fit {
        let ours = Published::SHIPPED;
        let with = match kind {
            Kind::Epochs => Published { epochs_to_target: text, ..ours },
            Kind::Accuracy => Published { accuracy: text, ..ours },
            _ => Published { accuracy_curves: text, ..ours },
        };
        let fitted = laws::fit_convergence(with)
            .map_err(|error| Failure::Refused(format!("{name}: {error}")))?;
        return output::print(&output::json(&fitted)?);
    }
    let (found, unread) = foretold(arguments, name, kind, published)?;
    let report = Report::new(name, kind, found, unread);
    if let Some((kind, file)) = plot {
        file.finish(&figure::draw_runs(&report.drawn(), kind)?)?;
    }
    let not_predicted = report.not_predicted.iter().map(|row| (row.line, row.reason.as_str()));
    let shown = (&report, || text::report(&report));
    super::print(arguments.format, name, shown, report.cases.iter(), not_predicted)?;
    super::check(arguments, report.mean_abs_error_percent)
}

/// What is foretold of a file's rows, and rows that could not be read. Rows that come with this
/// version are left out in turn, beside all others that do; rows that do not are foretold by all.
fn foretold(
    arguments: &ValidateArguments,
    name: &str,
    kind: Kind,
    published: &Table,
) -> Result<(laws::Report, Vec<Unread>), Failure> {
    let wrong = |problem: Problem| invalid(name, &problem);
    let refused = |error: FitError| Failure::Refused(format!("{name}: {error}"));
    let shipped = |problem: Problem| Failure::Runtime(format!("the shipped file: {problem}"));
    let table = |text: &str| Table::read(text).map_err(shipped);
    let ours = Published::SHIPPED;
    let group = arguments.leave_one_family_out;
    match kind {
        Kind::Epochs => {
            let (rows, unread) = read_leniently(published, laws::read_epochs).map_err(wrong)?;
            let known = laws::read_epochs(&table(ours.epochs_to_target)?).map_err(shipped)?;
            let same =
                |a: &laws::EpochsRow, b: &laws::EpochsRow| a.id() == b.id() && a.epochs == b.epochs;
            let Split { seen, unseen, combined } = Split::new(rows, known, same);
            let mut report = epochs::foretell(&Convergence::shipped().epochs, &unseen);
            if !seen.is_empty() {
                let runs = laws::read_curves(&table(ours.accuracy_curves)?).map_err(shipped)?;
                let what = if group { epochs::LeaveOut::Batch } else { epochs::LeaveOut::Point };
                let ends = epochs::ends(&runs);
                let left = epochs::leave_out(&combined, &ends, epochs::Model::Covariates, what)
                    .map_err(refused)?
                    .only(|id| seen.iter().any(|row| row.id() == id));
                report = if unseen.is_empty() { left } else { report.with(left) };
            }
            Ok((report, unread))
        }
        Kind::Accuracy => {
            let (rows, unread) = read_leniently(published, laws::read_accuracy).map_err(wrong)?;
            let known = laws::read_accuracy(&table(ours.accuracy)?).map_err(shipped)?;
            let same = |a: &laws::AccuracyRow, b: &laws::AccuracyRow| a.id == b.id;
            let Split { seen, unseen, combined } = Split::new(rows, known, same);
            let mut report = accuracy::foretell(&combined, &unseen).map_err(refused)?;
            if !seen.is_empty() {
                let what = if group { accuracy::LeaveOut::Group } else { accuracy::LeaveOut::Row };
                let left = accuracy::leave_out(&combined, what)
                    .map_err(refused)?
                    .only(|id| seen.iter().any(|row| row.id == id));
                report = if unseen.is_empty() { left } else { report.with(left) };
            }
            Ok((report, unread))
        }
        _ => {
            let (runs, unread) = read_leniently(published, laws::read_curves).map_err(wrong)?;
            let known = laws::read_curves(&table(ours.accuracy_curves)?).map_err(shipped)?;
            let same = |a: &laws::Run, b: &laws::Run| a.id == b.id;
            let Split { seen, unseen, combined } = Split::new(runs, known, same);
            let mut report = curves::foretell(&Convergence::shipped().curve, &unseen);
            if !seen.is_empty() {
                let what = if group { curves::LeaveOut::SetUp } else { curves::LeaveOut::Run };
                let left = curves::leave_out(&combined, what)
                    .map_err(refused)?
                    .only(|id| seen.iter().any(|run| run.id == id));
                report = if unseen.is_empty() { left } else { report.with(left) };
            }
            Ok((report, unread))
        }
    }
}

/// Rows of a file that come with this version, and that do not.
struct Split<T> {
    seen: Vec<T>,
    unseen: Vec<T>,
    /// All that come with this version, those of the file as the file has them.
    combined: Vec<T>,
}

impl<T: Clone> Split<T> {
    fn new(rows: Vec<T>, known: Vec<T>, same: impl Fn(&T, &T) -> bool) -> Self {
        let (seen, unseen): (Vec<T>, Vec<T>) =
            rows.into_iter().partition(|row| known.iter().any(|known| same(known, row)));
        let others = known.into_iter().filter(|known| !seen.iter().any(|row| same(row, known)));
        let combined = seen.iter().cloned().chain(others).collect();
        Self { seen, unseen, combined }
    }
}

impl Report {
    fn new(name: &str, kind: Kind, found: laws::Report, unread: Vec<Unread>) -> Self {
        let is_points = kind != Kind::Epochs;
        let mut not_predicted = super::unread(unread);
        not_predicted.extend(found.not_predicted.into_iter().map(|row| NotPredicted {
            line: row.line,
            id: row.id,
            family: String::new(),
            reason: row.reason.to_owned(),
        }));
        not_predicted.sort_by_key(|row| row.line);
        let cases: Vec<Case> = found
            .cases
            .into_iter()
            .map(|case| Case {
                error_percent: 100.0 * (case.predicted / case.published - 1.0),
                error_points: is_points.then_some(case.error),
                // A curve has many values, each of a line.
                id: match kind {
                    Kind::Curves => format!("{}:{}", case.id, case.line),
                    _ => case.id,
                },
                line: case.line,
                quantity: if is_points { "top1_percent" } else { "epochs" },
                published: case.published,
                predicted: case.predicted,
                low: case.low,
                high: case.high,
                groups: case.groups,
            })
            .collect();
        let percent: Vec<f64> = cases.iter().map(|case| case.error_percent.abs()).collect();
        let mean = |values: &[f64]| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let points: Vec<f64> =
            cases.iter().filter_map(|case| Some(case.error_points?.abs())).collect();
        Self {
            foretrain: Made {
                version: env!("CARGO_PKG_VERSION"),
                published: name.to_owned(),
                predictor: format!("the laws of convergence; left out: {}", found.left_out),
            },
            groups: found.groups,
            not_predicted,
            mean_abs_error_percent: mean(&percent),
            median_abs_error_percent: median(&percent),
            max_abs_error_percent: percent.iter().copied().reduce(f64::max),
            mean_abs_error_points: mean(&points),
            cases,
        }
    }

    /// What the figure shows.
    fn drawn(&self) -> figure::runs::RunsFigure {
        let is_epochs = self.cases.iter().any(|case| case.quantity == "epochs");
        figure::runs::RunsFigure {
            title: format!("{}: foretold and published", self.foretrain.published),
            subtitle: self.foretrain.predictor.clone(),
            x_of_errors: "row".to_owned(),
            unit: if is_epochs { "epochs" } else { "% top-1" }.to_owned(),
            logarithmic: false,
            points: self
                .cases
                .iter()
                .map(|case| figure::runs::RunPoint {
                    family: case.groups.first().copied().unwrap_or("all").to_owned(),
                    accelerators: case.line as f64,
                    published: case.published,
                    predicted: case.predicted,
                    low: Some(case.low),
                    high: Some(case.high),
                    perfect: None,
                })
                .collect(),
        }
    }
}

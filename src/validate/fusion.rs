//! Published steps with and without overlap and fusion, against the simulator.

use comfy_table::Cell;
use foretrain_calibrate::published::errors::{Case, Errors, NotPredicted};
use foretrain_calibrate::published::fusion::{FusionRun, Order, orders, predict};
use foretrain_calibrate::published::table::{Table, read_leniently};
use rayon::prelude::*;
use serde::Serialize;

use super::invalid;
use crate::cli::ValidateArguments;
use crate::failure::Failure;
use crate::figure;
use crate::output::OutputFile;
use crate::table::{plain, right, thousands};

/// Everything that is reported.
#[derive(Debug, Serialize)]
struct Report {
    foretrain: Made,
    cases: Vec<Case>,
    networks: Vec<NetworkRow>,
    orders: Vec<OrderRow>,
    not_predicted: Vec<NotPredicted>,
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

/// What a network anchor says of its network.
#[derive(Debug, Serialize)]
struct NetworkRow {
    id: String,
    fabric: String,
    /// Of the link's payload rate in the catalogue.
    efficiency: f64,
}

/// Methods of one network and size, the slowest first.
#[derive(Debug, Serialize)]
struct OrderRow {
    of: String,
    published: Vec<String>,
    predicted: Vec<String>,
    is_right: bool,
}

const PREDICTOR: &str =
    "the simulator, from one accelerator's rate and a network's two-node step without overlap";

pub(super) fn run(
    arguments: &ValidateArguments,
    name: &str,
    published: &Table,
    plot: Option<(figure::Kind, OutputFile)>,
) -> Result<(), Failure> {
    let (runs, unread) = read_leniently(published, FusionRun::read_all)
        .map_err(|problem| invalid(name, &problem))?;
    let mut report = Report::new(name, &runs);
    report.not_predicted.extend(super::unread(unread));
    if let Some((kind, file)) = plot {
        file.finish(&figure::draw_runs(&report.drawn(), kind)?)?;
    }
    let not_predicted = report.not_predicted.iter().map(|row| (row.line, row.reason.as_str()));
    let shown = (&report, || report.text());
    super::print(arguments.format, name, shown, report.cases.iter(), not_predicted)?;
    super::check(arguments, report.mean_abs_error_percent)
}

impl Report {
    fn new(name: &str, runs: &[FusionRun]) -> Self {
        let (mut cases, mut not_predicted) = (Vec::new(), Vec::new());
        let mut networks: Vec<NetworkRow> = Vec::new();
        let wanted: Vec<&FusionRun> =
            runs.iter().filter(|run| !run.is_anchor() && !run.is_network_anchor()).collect();
        let found: Vec<_> = wanted.par_iter().map(|run| predicted(run, runs)).collect();
        for (run, found) in wanted.into_iter().zip(found) {
            match found {
                Ok((case, efficiency)) => {
                    let is_known = networks.iter().any(|known| known.id == run.network_anchor);
                    if let Some(efficiency) = efficiency.filter(|_| !is_known) {
                        networks.push(NetworkRow {
                            id: run.network_anchor.clone(),
                            fabric: format!(
                                "{} Gbit/s {}",
                                run.system.nic_gbit_per_s.unwrap_or_default(),
                                run.system.fabric
                            ),
                            efficiency,
                        });
                    }
                    cases.push(case);
                }
                Err(reason) => not_predicted.push(NotPredicted {
                    line: run.line,
                    id: run.id.clone(),
                    family: run.family.clone(),
                    reason,
                }),
            }
        }
        let rate = |run: &FusionRun| {
            cases.iter().find(|case| case.id == run.id).map(|case| case.predicted)
        };
        let row = |Order { of, published, predicted, is_right }| OrderRow {
            of,
            published,
            predicted,
            is_right,
        };
        let orders = orders(runs, rate).into_iter().map(row).collect();
        let errors = Errors::of("all", &cases);
        let of = |pick: fn(&Errors) -> f64| errors.as_ref().map(pick);
        Self {
            foretrain: Made {
                version: env!("CARGO_PKG_VERSION"),
                published: name.to_owned(),
                predictor: PREDICTOR,
            },
            networks,
            orders,
            not_predicted,
            mean_abs_error_percent: of(|errors| errors.mean_abs_error_percent),
            median_abs_error_percent: of(|errors| errors.median_abs_error_percent),
            max_abs_error_percent: of(|errors| errors.max_abs_error_percent),
            cases,
        }
    }

    fn text(&self) -> String {
        let made = &self.foretrain;
        let mut text = format!(
            "{}: published steps against {}\nforetrain {}, no profile\n",
            made.published, made.predictor, made.version
        );
        if !self.cases.is_empty() {
            let mut table = plain();
            let mut heading = vec![Cell::new("id"), Cell::new("method")];
            heading.extend(["accelerators", "images/s", "predicted", "error"].map(right));
            table.set_header(heading);
            for case in &self.cases {
                table.add_row([
                    Cell::new(&case.id),
                    Cell::new(&case.family),
                    right(&case.accelerators.map(|n| n.to_string()).unwrap_or_default()),
                    right(&thousands(case.published, 0)),
                    right(&thousands(case.predicted, 0)),
                    right(&format!("{:+.1} %", case.error_percent)),
                ]);
            }
            text += &format!("\n{}\n", table.trim_fmt());
        }
        if let Some(errors) = Errors::of("all", &self.cases) {
            text += &format!(
                "\n{} rows: mean error {:.1} %, median {:.1} %, worst {:+.1} % ({})\n",
                errors.cases,
                errors.mean_abs_error_percent,
                errors.median_abs_error_percent,
                errors.worst_error_percent,
                errors.worst_id
            );
        }
        for network in &self.networks {
            text += &format!(
                "  {} reaches {:.0} % of its payload rate (from {})\n",
                network.fabric,
                100.0 * network.efficiency,
                network.id
            );
        }
        if !self.orders.is_empty() {
            let right = self.orders.iter().filter(|order| order.is_right).count();
            text += &format!(
                "\nThe order of methods by rate, right on {right} of {}\n",
                self.orders.len()
            );
            for order in &self.orders {
                let mark = if order.is_right { "right" } else { "wrong" };
                text += &format!("  {mark}  {}: {}\n", order.of, order.predicted.join(" < "));
                if !order.is_right {
                    text += &format!("         published: {}\n", order.published.join(" < "));
                }
            }
        }
        for row in &self.not_predicted {
            text += &format!("  not predicted: line {}, {}: {}\n", row.line, row.id, row.reason);
        }
        text
    }

    /// What the figure shows.
    fn drawn(&self) -> figure::runs::RunsFigure {
        figure::runs::RunsFigure {
            title: format!("{}: predicted and published rates", self.foretrain.published),
            subtitle: PREDICTOR.to_owned(),
            x_of_errors: "accelerators".to_owned(),
            unit: "images/s".to_owned(),
            logarithmic: true,
            points: self
                .cases
                .iter()
                .map(|case| figure::runs::RunPoint {
                    family: case.family.clone(),
                    accelerators: f64::from(case.accelerators.unwrap_or(1)),
                    published: case.published,
                    predicted: case.predicted,
                    low: None,
                    high: None,
                    perfect: None,
                })
                .collect(),
        }
    }
}

/// A row's case, and what its network reaches of its payload rate.
fn predicted(run: &FusionRun, runs: &[FusionRun]) -> Result<(Case, Option<f64>), String> {
    let published = run.images_per_s.ok_or("images_per_s: not given")?;
    let named = |id: &str| runs.iter().find(|other| other.id == id);
    let anchor =
        named(&run.anchor).ok_or_else(|| format!("anchor: there is no row `{}`", run.anchor))?;
    let network_anchor = match run.network_anchor.as_str() {
        "" => None,
        id => Some(named(id).ok_or_else(|| format!("network_anchor: there is no row `{id}`"))?),
    };
    let found = predict(run, anchor, network_anchor)?;
    let case = Case {
        id: run.id.clone(),
        family: run.method.clone(),
        line: run.line,
        quantity: "images_per_s",
        published,
        predicted: found.images_per_s,
        error_percent: Case::error_percent(published, found.images_per_s),
        low: None,
        high: None,
        accelerators: Some(run.system.accelerators),
        per_accelerator_batch: Some(run.per_accelerator_batch),
        notes: found.notes,
    };
    Ok((case, found.link_efficiency))
}

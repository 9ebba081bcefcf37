//! `foretrain allreduce`: time one all-reduce, every message evaluated.

use foretrain_sim::collective::{Algorithm, Timing, TimingError, time_all_reduce};
use foretrain_sim::network::{Contention, Link, TwoLevel};
use foretrain_sim::random::Streams;
use foretrain_sim::units::{Bytes, SimDuration};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::{AlgorithmArgument, AllreduceArguments, ContentionArgument, Format};
use crate::failure::Failure;
use crate::table::{plain, right, thousands};
use crate::{output, table};

/// What made the rows, so that they can be made again.
#[derive(Debug, Serialize)]
struct Made {
    version: &'static str,
    scenario_hash: Option<String>,
    profile_hash: Option<String>,
    seed: u64,
    link: Link,
    intra_link: Link,
    ranks_per_node: u32,
    contention: Contention,
    group: Option<u32>,
    ring_from: Option<Bytes>,
    jitter: SimDuration,
}

#[derive(Debug, Serialize)]
struct Report {
    foretrain: Made,
    rows: Vec<Timing>,
}

pub(crate) fn run(arguments: &AllreduceArguments) -> Result<(), Failure> {
    let made = Made {
        version: env!("CARGO_PKG_VERSION"),
        scenario_hash: None,
        profile_hash: None,
        seed: arguments.seed,
        link: arguments.link,
        intra_link: arguments.intra_link.unwrap_or(arguments.link),
        ranks_per_node: arguments.ranks_per_node.unwrap_or(1),
        contention: match arguments.contention {
            ContentionArgument::Shared => Contention::Shared,
            ContentionArgument::None => Contention::None,
        },
        group: arguments.group.or(arguments.ranks_per_node),
        ring_from: arguments.ring_from,
        jitter: arguments.jitter.unwrap_or(SimDuration::ZERO),
    };
    let network = TwoLevel::new(made.ranks_per_node, made.intra_link, made.link)
        .with_contention(made.contention);
    let streams = Streams::new(made.seed);
    let mut rows = Vec::new();
    for &ranks in &arguments.ranks {
        for &name in &arguments.algorithm {
            let algorithm = algorithm(&made, name)?;
            for &size in &arguments.size {
                let (jitter, engine) = (made.jitter, arguments.engine.into());
                let timing =
                    time_all_reduce(algorithm, ranks, size, &network, jitter, &streams, engine);
                rows.push(timing.map_err(|error| match error {
                    TimingError::Run(error) => Failure::Runtime(error.to_string()),
                    error => Failure::Usage(format!("{ranks} ranks, {size}: {error}")),
                })?);
            }
        }
    }
    print(&Report { foretrain: made, rows }, arguments.format)
}

fn algorithm(made: &Made, name: AlgorithmArgument) -> Result<Algorithm, Failure> {
    let missing =
        |flag: &str| Failure::Usage(format!("{flag} is missing: this algorithm needs it"));
    let group = || made.group.ok_or_else(|| missing("--group"));
    Ok(match name {
        AlgorithmArgument::Ring => Algorithm::Ring,
        AlgorithmArgument::Hierarchical => Algorithm::Hierarchical { group: group()? },
        AlgorithmArgument::Torus => Algorithm::Torus { group: group()? },
        AlgorithmArgument::HalvingDoubling => Algorithm::HalvingDoubling,
        AlgorithmArgument::Hybrid => Algorithm::Hybrid {
            group: group()?,
            ring_from: made.ring_from.ok_or_else(|| missing("--ring-from"))?,
        },
    })
}

fn print(report: &Report, format: Format) -> Result<(), Failure> {
    match format {
        Format::Table => output::print(&text(report)),
        Format::Json => output::print(&output::json(report)?),
        Format::Csv => output::print(&table::csv(&records(report)?)?),
    }
}

fn text(report: &Report) -> String {
    let Made { version, seed, link, intra_link, ranks_per_node, contention, jitter, .. } =
        &report.foretrain;
    let engine = report.rows.first().map(|row| row.engine).unwrap_or_default();
    let mut text = format!(
        "foretrain {version}, no scenario, no profile, seed {seed}, engine {engine}\nlink {link}"
    );
    if *ranks_per_node > 1 {
        text += &format!(
            "; {ranks_per_node} ranks a node, inside {intra_link}; contention {contention}"
        );
    }
    if *jitter > SimDuration::ZERO {
        text += &format!("; starts within {jitter}");
    }
    let mut table = plain();
    let headings =
        ["algorithm", "ranks", "bytes", "time us", "algbw GB/s", "busbw GB/s", "messages"];
    table.set_header(headings.map(right));
    for row in &report.rows {
        table.add_row([
            right(&row.algorithm),
            right(&thousands(f64::from(row.ranks), 0)),
            right(&thousands(row.message_bytes as f64, 0)),
            right(&thousands(row.time_us, 3)),
            right(&format!("{:.3}", row.algbw_gbyte_per_s)),
            right(&format!("{:.3}", row.busbw_gbyte_per_s)),
            right(&thousands(row.messages as f64, 0)),
        ]);
    }
    format!("{text}\n{}\n", table.trim_fmt())
}

/// One object a row, each with what made it.
fn records(report: &Report) -> Result<Vec<Map<String, Value>>, Failure> {
    let made = output::object(&report.foretrain)?;
    let record = |row: &Timing| {
        let mut record = output::object(row)?;
        record.extend(made.clone());
        Ok(record)
    };
    report.rows.iter().map(record).collect()
}

//! `foretrain allreduce`: time one all-reduce, every message evaluated.

use foretrain_sim::collective::{Algorithm, Schedule, replay_arrays, replay_events};
use foretrain_sim::network::{Rank, TwoLevel};
use foretrain_sim::random::Streams;
use foretrain_sim::units::{Bytes, SimDuration, SimTime};
use rand::RngExt as _;
use serde::Serialize;

use crate::cli::{AlgorithmArgument, AllreduceArguments, EngineName, Format};
use crate::failure::Failure;
use crate::table::{plain, right, thousands};
use crate::{output, table};

/// One all-reduce.
#[derive(Debug, Serialize)]
struct Row {
    algorithm: String,
    ranks: u32,
    message_bytes: u64,
    /// From the first start to the last finish.
    time_us: f64,
    /// Bytes over time.
    algbw_gbyte_per_s: f64,
    /// What each link carries: algbw · 2(n−1)/n, as nccl-tests defines it.
    busbw_gbyte_per_s: f64,
    messages: u64,
    engine: &'static str,
}

#[derive(Debug, Serialize)]
struct Made {
    version: &'static str,
    seed: u64,
    scenario_hash: Option<String>,
    profile_hash: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    foretrain: Made,
    rows: Vec<Row>,
}

pub(crate) fn run(arguments: &AllreduceArguments) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for &ranks in &arguments.ranks {
        for &algorithm in &arguments.algorithm {
            for &size in &arguments.size {
                rows.push(row(arguments, algorithm, ranks, size)?);
            }
        }
    }
    let made = Made {
        version: env!("CARGO_PKG_VERSION"),
        seed: arguments.seed,
        scenario_hash: None,
        profile_hash: None,
    };
    let report = Report { foretrain: made, rows };
    let failed = |error| Failure::Runtime(format!("failed to write JSON: {error}"));
    match arguments.format {
        Format::Table => output::print(&text(&report)),
        Format::Json => {
            output::print(&(serde_json::to_string_pretty(&report).map_err(failed)? + "\n"))
        }
        Format::Csv => output::print(&table::csv(&records(&report)?)?),
    }
}

fn row(
    arguments: &AllreduceArguments,
    name: AlgorithmArgument,
    ranks: u32,
    size: Bytes,
) -> Result<Row, Failure> {
    if ranks < 2 || size == Bytes::ZERO {
        let message = "--ranks and --size: an all-reduce needs at least 2 ranks and 1 byte";
        return Err(Failure::Usage(message.to_owned()));
    }
    let algorithm = algorithm(arguments, name, ranks)?;
    let schedule = algorithm
        .schedule(ranks, size)
        .map_err(|error| Failure::Usage(format!("--ranks, --group: {error}")))?;
    let per_node = arguments.ranks_per_node.unwrap_or(1);
    let intra = arguments.intra_link.unwrap_or(arguments.link);
    let network = TwoLevel::new(per_node, intra, arguments.link);
    let starts = starts(arguments, ranks);
    let time = duration(arguments.engine, &schedule, &network, &starts)?;
    let gbyte_per_s = size.get() as f64 / 1e9 / time.as_seconds();
    Ok(Row {
        algorithm: algorithm.name().to_string(),
        ranks,
        message_bytes: size.get(),
        time_us: time.as_us(),
        algbw_gbyte_per_s: gbyte_per_s,
        busbw_gbyte_per_s: gbyte_per_s * 2.0 * f64::from(ranks - 1) / f64::from(ranks),
        messages: schedule.messages(),
        engine: match arguments.engine {
            EngineName::Arrays => "arrays",
            EngineName::Events => "events",
        },
    })
}

fn algorithm(
    arguments: &AllreduceArguments,
    name: AlgorithmArgument,
    ranks: u32,
) -> Result<Algorithm, Failure> {
    let missing =
        |flag: &str| Failure::Usage(format!("{flag} is missing: this algorithm needs it"));
    let group = || {
        let given = arguments.group.or(arguments.ranks_per_node);
        given.map(|group| group.min(ranks)).ok_or_else(|| missing("--group"))
    };
    Ok(match name {
        AlgorithmArgument::Ring => Algorithm::Ring,
        AlgorithmArgument::Hierarchical => Algorithm::Hierarchical { group: group()? },
        AlgorithmArgument::Hybrid => Algorithm::Hybrid {
            group: group()?,
            ring_from: arguments.ring_from.ok_or_else(|| missing("--ring-from"))?,
        },
    })
}

/// When each rank starts: at once, or uniformly at random within the jitter.
fn starts(arguments: &AllreduceArguments, ranks: u32) -> Vec<SimTime> {
    let jitter = arguments.jitter.unwrap_or(SimDuration::ZERO).as_ps();
    let streams = Streams::new(arguments.seed);
    (0..ranks)
        .map(|rank| match jitter {
            0 => SimTime::ZERO,
            jitter => {
                let mut stream = streams.stream(&Rank(rank).to_string(), "start");
                SimTime::from_ps(stream.random_range(0..=jitter))
            }
        })
        .collect()
}

fn duration(
    engine: EngineName,
    schedule: &Schedule,
    network: &TwoLevel,
    starts: &[SimTime],
) -> Result<SimDuration, Failure> {
    let finished = match engine {
        EngineName::Arrays => replay_arrays(schedule, network, starts),
        EngineName::Events => {
            let starts: Vec<Option<SimTime>> = starts.iter().copied().map(Some).collect();
            replay_events(schedule, network, &starts)
                .map_err(|error| Failure::Runtime(error.to_string()))?
        }
    };
    let first = starts.iter().min().copied().unwrap_or_default();
    let last = finished.iter().max().copied().unwrap_or_default();
    Ok(last.since(first))
}

fn text(report: &Report) -> String {
    let mut table = plain();
    table.set_header(
        ["algorithm", "ranks", "bytes", "time us", "algbw GB/s", "busbw GB/s", "messages"]
            .map(right),
    );
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
    let Made { version, seed, .. } = report.foretrain;
    let engine = report.rows.first().map_or("arrays", |row| row.engine);
    format!(
        "foretrain {version}, no scenario, no profile, seed {seed}, engine {engine}\n{}\n",
        table.trim_fmt()
    )
}

fn records(report: &Report) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, Failure> {
    report
        .rows
        .iter()
        .map(|row| match serde_json::to_value(row) {
            Ok(serde_json::Value::Object(mut record)) => {
                record.insert("version".into(), report.foretrain.version.into());
                record.insert("seed".into(), report.foretrain.seed.into());
                Ok(record)
            }
            Ok(_) | Err(_) => Err(Failure::Runtime("failed to write CSV".to_owned())),
        })
        .collect()
}

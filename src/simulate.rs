//! `foretrain simulate SCENARIO`.

use foretrain_sim::forecast::{Engine, Forecast, forecast};
use foretrain_sim::scenario::{Case, Overrides, Scenario};

use crate::cli::{EngineName, Format, SimulateArguments};
use crate::failure::Failure;
use crate::output::{self, OutputFile};
use crate::{figure, progress, table, trace};

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Arrays => Self::Arrays,
            EngineName::Events => Self::Events,
        }
    }
}

pub(crate) fn run(arguments: &SimulateArguments) -> Result<(), Failure> {
    let text = output::read_text(&arguments.scenario)?;
    let overrides = Overrides { seed: arguments.seed, steps: arguments.steps };
    let scenario = Scenario::from_toml(&text, overrides)
        .map_err(|error| Failure::Invalid(format!("{}:{error}", arguments.scenario.display())))?;
    let traced = match &arguments.trace {
        Some(path) => Some((OutputFile::create(path)?, traced_case(&scenario, arguments)?)),
        None => None,
    };
    let plot = match &arguments.plot {
        Some(path) => Some((figure::Kind::of(path)?, OutputFile::create(path)?)),
        None => None,
    };
    let engine = arguments.engine.into();
    let result = on_threads(arguments.threads, || {
        let bar = progress::bar(scenario.cases.len(), "simulating");
        let result = forecast(&scenario, engine, || bar.inc(1));
        bar.finish_and_clear();
        result
    })??;
    if let Some((file, case)) = traced {
        let ranks = trace::ranks(&arguments.trace_ranks, case.accelerators)?;
        file.finish(&trace::trace(
            case,
            &result.foretrain,
            engine,
            arguments.trace_steps,
            &ranks,
        )?)?;
    }
    if let Some((kind, file)) = plot {
        file.finish(&figure::draw(std::slice::from_ref(&result), kind)?)?;
    }
    print(&result, arguments.format)
}

/// Runs `work` on so many threads, or as many as there are cores.
fn on_threads<T: Send>(
    threads: Option<u16>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0).into()).build();
    let pool =
        pool.map_err(|error| Failure::Runtime(format!("failed to start threads: {error}")))?;
    Ok(pool.install(work))
}

fn traced_case<'a>(
    scenario: &'a Scenario,
    arguments: &SimulateArguments,
) -> Result<&'a Case, Failure> {
    let wanted = arguments.trace_point;
    let found = scenario
        .cases
        .iter()
        .rfind(|case| wanted.is_none_or(|accelerators| case.accelerators == accelerators));
    found.ok_or_else(|| {
        let known: Vec<String> =
            scenario.cases.iter().map(|case| case.accelerators.to_string()).collect();
        Failure::Usage(format!(
            "--trace-point {}: no point has so many accelerators, expected one of {}",
            wanted.unwrap_or_default(),
            known.join(", ")
        ))
    })
}

fn print(forecast: &Forecast, format: Format) -> Result<(), Failure> {
    match format {
        Format::Table => {
            table::warn(forecast);
            output::print(&table::forecast(forecast))
        }
        Format::Json => output::print(&json(forecast)?),
        Format::Csv => output::print(&table::csv(&rows(forecast)?)?),
    }
}

fn json(forecast: &Forecast) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(forecast);
    let text = text.map_err(|error| Failure::Runtime(format!("failed to write JSON: {error}")))?;
    Ok(text + "\n")
}

/// One object a point, each with what made it.
fn rows(forecast: &Forecast) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, Failure> {
    let header = &forecast.foretrain;
    forecast
        .points
        .iter()
        .map(|point| match serde_json::to_value(point) {
            Ok(serde_json::Value::Object(mut row)) => {
                row.insert("version".into(), header.version.clone().into());
                row.insert("scenario_hash".into(), header.scenario_hash.clone().into());
                row.insert("profile_hash".into(), header.profile_hash.clone().into());
                row.insert("seed".into(), header.seed.into());
                Ok(row)
            }
            Ok(_) | Err(_) => Err(Failure::Runtime("failed to write CSV".to_owned())),
        })
        .collect()
}

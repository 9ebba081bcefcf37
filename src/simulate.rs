//! `foretrain simulate SCENARIO`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use foretrain_sim::forecast::{self as forecasts, Engine, Forecast, ForecastError, forecast};
use foretrain_sim::profile::Profile;
use foretrain_sim::scenario::{
    Case, NamedProfile, Overrides, Profiles, Scenario, ScenarioError, text_hash,
};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::cli::{EngineName, Format, SimulateArguments};
use crate::failure::{Failure, Reason};
use crate::output::{self, OutputFile};
use crate::{explain, figure, progress, table, trace};

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Folded => Self::Folded,
            EngineName::Arrays => Self::Arrays,
            EngineName::Events => Self::Events,
        }
    }
}

pub(crate) fn run(arguments: &SimulateArguments) -> Result<(), Failure> {
    let text = output::read_text(&arguments.scenario)?;
    let overrides = Overrides { seed: arguments.seed, steps: arguments.steps };
    let scenario = scenario(&arguments.scenario, &text, overrides)?;
    if arguments.trace.is_some() && arguments.trace == arguments.plot {
        return Err(Failure::Usage("--trace and --plot name the same file".to_owned()));
    }
    let traced = match &arguments.trace {
        Some(path) => {
            let case = traced_case(&scenario, arguments)?;
            let ranks = trace::ranks(&arguments.trace_ranks, case.accelerators)?;
            Some((OutputFile::create(path)?, case, ranks))
        }
        None => None,
    };
    let plot = match &arguments.plot {
        Some(path) => Some((figure::Kind::of(path)?, OutputFile::create(path)?)),
        None => None,
    };
    let engine = arguments.engine.into();
    let result = on_threads(arguments.threads, || {
        let bar = progress::bar(scenario.cases.len(), "simulating");
        let result = forecast(&scenario, engine, || bar.inc(1)).and_then(|mut result| {
            if arguments.explain {
                explain_points(&scenario, engine, &mut result)?;
            }
            Ok(result)
        });
        bar.finish_and_clear();
        result
    })??;
    if let Some((file, case, ranks)) = traced {
        file.finish(&trace::trace(
            case,
            &result.foretrain,
            engine,
            arguments.trace_steps,
            &ranks,
        )?)?;
    }
    if let Some((kind, file)) = plot {
        let drawn = if arguments.explain {
            figure::draw_waterfalls(
                &result.foretrain.scenario,
                "From perfect scaling to the forecast, for one global batch of the whole run",
                &explain::waterfalls(&result),
                kind,
            )
        } else {
            figure::draw(std::slice::from_ref(&result), kind)
        };
        file.finish(&drawn?)?;
    }
    print(&result, arguments)
}

/// Adds to each point why it is slower than perfect scaling.
fn explain_points(
    scenario: &Scenario,
    engine: Engine,
    result: &mut Forecast,
) -> Result<(), ForecastError> {
    let explained = scenario.cases.par_iter().map(|case| forecasts::explain(case, engine));
    let explained = explained.collect::<Result<Vec<_>, ForecastError>>()?;
    for (point, explanation) in result.points.iter_mut().zip(explained) {
        point.explanation = Some(explanation);
    }
    Ok(())
}

/// Reads a scenario, and the profiles that it names by their paths from its folder.
fn scenario(path: &Path, text: &str, overrides: Overrides) -> Result<Scenario, Failure> {
    with_profiles(path, |profiles| Scenario::with_profiles(text, overrides, profiles))
}

/// Reads a scenario at `path`, whose profiles are named by their paths from its folder.
pub(crate) fn with_profiles<T>(
    path: &Path,
    read: impl FnOnce(&Profiles<'_>) -> Result<T, ScenarioError>,
) -> Result<T, Failure> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let named = |name: &str| {
        let path = folder.join(name);
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("failed to read {}: {}", path.display(), Reason(&error)))?;
        let profile =
            Profile::read(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(NamedProfile { profile, hash: text_hash(&text) })
    };
    read(&named).map_err(|error| Failure::Invalid(format!("{}:{error}", path.display())))
}

/// Runs `work` on so many threads, or as many as there are cores.
pub(crate) fn on_threads<T: Send>(
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
    let series = arguments.trace_series.as_ref();
    let of_series =
        || scenario.cases.iter().filter(|case| series.is_none_or(|series| case.series == *series));
    if of_series().next().is_none() {
        let known: BTreeSet<&str> = scenario.cases.iter().map(|case| &*case.series).collect();
        let known: Vec<&str> = known.into_iter().collect();
        return Err(Failure::Usage(format!(
            "--trace-series: there is no such curve, expected one of: {}",
            known.join("; ")
        )));
    }
    let found = of_series().rfind(|case| wanted.is_none_or(|count| case.accelerators == count));
    found.ok_or_else(|| {
        let known: BTreeSet<u32> = of_series().map(|case| case.accelerators).collect();
        let known: Vec<String> = known.iter().map(u32::to_string).collect();
        Failure::Usage(format!(
            "--trace-point {}: no point has so many accelerators, expected one of {}",
            wanted.unwrap_or_default(),
            known.join(", ")
        ))
    })
}

fn print(forecast: &Forecast, arguments: &SimulateArguments) -> Result<(), Failure> {
    table::warn(forecast);
    match arguments.format {
        Format::Table if arguments.explain => {
            output::print(&(table::forecast(forecast) + &explain::text(forecast)))
        }
        Format::Table => output::print(&table::forecast(forecast)),
        Format::Json => output::print(&output::json(forecast)?),
        Format::Csv if arguments.explain => output::print(&table::csv(&explain::rows(forecast)?)?),
        Format::Csv => output::print(&table::csv(&rows(forecast)?)?),
    }
}

/// One object a point, each with what made it.
fn rows(forecast: &Forecast) -> Result<Vec<Map<String, Value>>, Failure> {
    let mut made = output::object(&forecast.foretrain)?;
    // Names and sources may be long, and the hash stands for them.
    made.retain(|key, _| key != "scenario" && key != "source");
    let row = |point| {
        let mut row = output::object(point)?;
        row.extend(made.clone());
        Ok(row)
    };
    forecast.points.iter().map(row).collect()
}

//! `foretrain plot FORECAST... -o FIGURE`, and `foretrain plot PLAN -o FIGURE`.

use std::path::Path;

use foretrain_sim::forecast::Forecast;
use foretrain_sim::search::Plan;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::cli::PlotArguments;
use crate::failure::Failure;
use crate::figure;
use crate::output::{self, OutputFile};

/// What tells a plan from a forecast.
#[derive(Deserialize)]
struct Probe {
    frontier: Option<IgnoredAny>,
}

enum Saved {
    Forecast(Box<Forecast>),
    Plan(Box<Plan>),
}

pub(crate) fn run(arguments: &PlotArguments) -> Result<(), Failure> {
    let kind = figure::Kind::of(&arguments.output)?;
    if arguments.forecasts.iter().filter(|path| *path == Path::new("-")).count() > 1 {
        return Err(Failure::Usage("- is given twice: stdin can be read once".to_owned()));
    }
    let mut forecasts = Vec::new();
    let mut plans = Vec::new();
    for path in &arguments.forecasts {
        match read(path)? {
            Saved::Forecast(forecast) => forecasts.push(*forecast),
            Saved::Plan(plan) => plans.push(*plan),
        }
    }
    let drawn = match (forecasts.as_slice(), plans.as_slice()) {
        ([_, ..], []) => figure::draw(&forecasts, kind)?,
        ([], [plan]) => figure::draw_plan(plan, kind)?,
        _ => {
            let message = "a plan is drawn by itself: give one plan, or forecasts alone";
            return Err(Failure::Usage(message.to_owned()));
        }
    };
    OutputFile::create(&arguments.output)?.finish(&drawn)
}

fn read(path: &Path) -> Result<Saved, Failure> {
    let text = output::read_text(path)?;
    let is_plan = serde_json::from_str(&text).is_ok_and(|probe: Probe| probe.frontier.is_some());
    if is_plan {
        return Ok(Saved::Plan(Box::new(parsed(path, &text, "plan")?)));
    }
    let forecast: Forecast = parsed(path, &text, "forecast")?;
    if forecast.points.is_empty() {
        return Err(Failure::Invalid(format!(
            "{}: the forecast has no points",
            output::shown(path)
        )));
    }
    Ok(Saved::Forecast(Box::new(forecast)))
}

fn parsed<T: DeserializeOwned>(path: &Path, text: &str, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let command = if what == "plan" { "plan" } else { "simulate" };
        Failure::Invalid(format!(
            "{}:{}:{}: this is not a {what}: {error}; make one with `foretrain {command} SCENARIO \
             --format json`",
            output::shown(path),
            error.line(),
            error.column()
        ))
    })
}

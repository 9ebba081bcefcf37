//! The answer: a forecast of every point of a scenario.
//!
//! [`forecast`] simulates a checked [`Scenario`]; the result is plain data that is written as JSON
//! and read back for plots. Points are independent and may run on several threads; their order and
//! every byte of the result are the same whatever the number of threads.

mod bill;
mod compare;
mod explain;
mod interval;
mod point;
mod warning;

#[cfg(test)]
mod bill_tests;
#[cfg(test)]
mod tests;

pub(crate) use bill::minutes;
pub use compare::{PublishedPoint, Quantity};
pub use explain::{ExplainedPart, Explanation, Part, explain};
pub use point::Point;
pub use warning::{Warning, WarningCode};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::collective::Engine;
pub use crate::scenario::SimulationError as ForecastError;
use crate::scenario::{Case, Scenario, Space};
use crate::step::StepTimes;

/// What made a forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// The version of this program.
    pub version: String,
    /// The scenario's name.
    pub scenario: String,
    /// Where the scenario is from.
    pub source: Option<String>,
    /// SHA-256 of the scenario's text.
    pub scenario_hash: String,
    /// SHA-256 of the profile, if one was used; of several, with commas between them.
    pub profile_hash: Option<String>,
    /// The seed of all random streams.
    pub seed: u64,
    /// The engine that ran.
    pub engine: Engine,
    /// Measured steps of each point.
    pub steps: u32,
}

/// An input of the forecast and where it is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InputNote {
    /// The variant it belongs to, if the scenario has any.
    pub variant: Option<String>,
    /// What it is.
    pub what: String,
    /// Its value.
    pub value: String,
    /// Where it is from.
    pub from: String,
}

/// A forecast of every point of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// What made it.
    pub foretrain: Header,
    /// The points, curve by curve.
    pub points: Vec<Point>,
    /// Published measurements held against it.
    pub published: Vec<PublishedPoint>,
    /// What it rests on.
    pub inputs: Vec<InputNote>,
    /// What a reader should keep in mind.
    pub warnings: Vec<Warning>,
}

/// Simulates every point of `scenario`, calling `progress` after each.
///
/// # Errors
/// If a point cannot be simulated; a checked scenario has none.
pub fn forecast(
    scenario: &Scenario,
    engine: Engine,
    progress: impl Fn() + Sync,
) -> Result<Forecast, ForecastError> {
    let points = scenario
        .cases
        .par_iter()
        .with_max_len(1)
        .map(|case| {
            let point = point::point(case, engine);
            progress();
            point
        })
        .collect::<Result<Vec<Point>, ForecastError>>()?;
    Ok(answer(scenario, engine, points))
}

/// The forecast of `cases`, which were chosen of `space`.
///
/// # Errors
/// As [`forecast()`].
pub(crate) fn of_cases(space: &Space, cases: Vec<Case>) -> Result<Forecast, ForecastError> {
    let engine = Engine::Folded;
    let points = cases.iter().map(|case| point::point(case, engine));
    let points = points.collect::<Result<Vec<Point>, ForecastError>>()?;
    let Space { name, source, hash, profile_hashes, .. } = space.clone();
    let scenario = Scenario { name, source, hash, profile_hashes, cases, published: Vec::new() };
    Ok(answer(&scenario, engine, points))
}

/// What makes forecasts of points of `space`.
pub(crate) fn header(space: &Space) -> Header {
    let Space { name, source, hash, profile_hashes, offers, .. } = space.clone();
    let any = offers.iter().find_map(|offer| offer.setups().find_map(|s| offer.case(&s).ok()));
    let cases = any.into_iter().collect();
    let scenario = Scenario { name, source, hash, profile_hashes, cases, published: Vec::new() };
    answer(&scenario, Engine::Folded, Vec::new()).foretrain
}

/// What is said of `points`, the points of `scenario`.
fn answer(scenario: &Scenario, engine: Engine, points: Vec<Point>) -> Forecast {
    let published = compare::compare(&scenario.published, &points);
    let first = scenario.cases.first();
    Forecast {
        foretrain: Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: scenario.name.clone(),
            source: scenario.source.clone(),
            scenario_hash: scenario.hash.clone(),
            profile_hash: match scenario.profile_hashes.as_slice() {
                [] => None,
                some => Some(some.join(", ")),
            },
            seed: first.map_or(1, |case| case.seed),
            engine: scenario
                .cases
                .iter()
                .map(|case| case.engine(engine))
                .find(|ran| *ran != engine)
                .unwrap_or(engine),
            steps: first.map_or(0, |case| case.steps),
        },
        warnings: warning::warnings(&scenario.cases, &scenario.published, &points),
        inputs: inputs(&scenario.cases),
        points,
        published,
    }
}

/// Simulates `steps` steps of one point, telling `observer` what each rank did when.
///
/// # Errors
/// If the point cannot be simulated; one of a checked scenario can.
pub fn observe(
    case: &Case,
    engine: Engine,
    steps: u32,
    observer: impl FnMut(u32, &StepTimes),
) -> Result<(), ForecastError> {
    case.simulate(engine, steps, observer).map(|_| ())
}

fn inputs(cases: &[Case]) -> Vec<InputNote> {
    let mut inputs: Vec<InputNote> = Vec::new();
    for case in cases {
        for source in &case.sources {
            let note = InputNote {
                variant: case.variant.clone(),
                what: source.what.to_owned(),
                value: source.value.clone(),
                from: source.from.clone(),
            };
            if !inputs.contains(&note) {
                inputs.push(note);
            }
        }
    }
    inputs
}

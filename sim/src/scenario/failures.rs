//! What fails, and how training goes on: the section `[failures]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machine::InputSource;
use super::problem::Problem;
use crate::failures::{Failures, daly_interval_s};
use crate::units::{LongDuration, SimDuration};

/// What fails, and how training goes on.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailuresSpec {
    /// Mean time between failures of one node, or between the interruptions of a spot instance;
    /// nothing fails by default.
    pub node_mtbf: Option<LongDuration>,
    /// Training between two checkpoints; by default what Daly's formula gives each point.
    pub checkpoint_every: Option<SimDuration>,
    /// How long training stops for a checkpoint.
    pub checkpoint_time: Option<SimDuration>,
    /// From a failure to training again: until it is noticed, nodes are replaced, programs started and
    /// the last checkpoint is read.
    pub restart_time: Option<SimDuration>,
}

/// The failures of a run on `nodes` nodes, and where they are from.
pub(super) fn failures(
    spec: Option<&FailuresSpec>,
    nodes: u32,
) -> Result<(Option<Failures>, Vec<InputSource>), Problem> {
    let Some(spec) = spec else { return Ok((None, Vec::new())) };
    let problem = |key: &str, problem: &str| Problem::new(&format!("failures.{key}"), problem);
    let checkpoint_s = match spec.checkpoint_time {
        Some(time) => time.as_seconds(),
        None => {
            let missing = "missing: give how long training stops for a checkpoint, such as \"20 s\", \
                           or \"0 s\" if it is written beside training";
            return Err(problem("checkpoint_time", missing));
        }
    };
    let mtbf_s = match spec.node_mtbf.map(LongDuration::get) {
        Some(node_s) if node_s <= 0.0 => {
            let zero = "0, expected a time above 0; leave it out if nothing fails";
            return Err(problem("node_mtbf", zero));
        }
        node_s => node_s.map(|node_s| node_s / f64::from(nodes)),
    };
    let restart_s = match (mtbf_s, spec.restart_time) {
        (Some(_), None) => {
            let missing =
                "missing: give the time from a failure to training again, such as \"5 min\"";
            return Err(problem("restart_time", missing));
        }
        (None, Some(_)) => {
            let ignored = "has no effect: nothing fails; give failures.node_mtbf, such as \"50000 h\", \
                           or leave it out";
            return Err(problem("restart_time", ignored));
        }
        (_, time) => time.map_or(0.0, SimDuration::as_seconds),
    };
    let interval_s = match (spec.checkpoint_every, mtbf_s) {
        (Some(SimDuration::ZERO), _) => {
            return Err(problem("checkpoint_every", "0, expected a time above 0"));
        }
        (Some(every), _) => every.as_seconds(),
        (None, None) => {
            let missing = "missing: where nothing fails no interval is the best; give it, such as \
                           \"10 min\", or failures.node_mtbf";
            return Err(problem("checkpoint_every", missing));
        }
        (None, Some(_)) if checkpoint_s <= 0.0 => {
            let missing = "missing: checkpoints that take no time have no best interval; give it, \
                           such as \"10 min\"";
            return Err(problem("checkpoint_every", missing));
        }
        (None, Some(mtbf_s)) => daly_interval_s(checkpoint_s, mtbf_s),
    };
    let failures = Failures { mtbf_s, interval_s, checkpoint_s, restart_s };
    Ok((Some(failures), sources(spec)))
}

/// Lines that are the same for all numbers of nodes.
fn sources(spec: &FailuresSpec) -> Vec<InputSource> {
    let scenario = || "scenario".to_owned();
    let mut sources = Vec::new();
    if let Some(mtbf) = spec.node_mtbf {
        let restart = spec.restart_time.unwrap_or(SimDuration::ZERO);
        let hours = mtbf.get() / 3600.0;
        let value =
            format!("a node every {hours} h on average, at any time; restarts take {restart}");
        sources.push(InputSource { what: "failures", value, from: scenario() });
    }
    let time = spec.checkpoint_time.unwrap_or(SimDuration::ZERO);
    let (every, from) = match spec.checkpoint_every {
        Some(every) => (format!("every {every}"), scenario()),
        None => {
            let from = "scenario; Daly, Future Generation Computer Systems 22 (2006)".to_owned();
            ("at Daly's optimum for each point".to_owned(), from)
        }
    };
    sources.push(InputSource { what: "checkpoints", value: format!("{every}, {time} each"), from });
    sources
}

#[cfg(test)]
#[path = "failures_tests.rs"]
mod tests;

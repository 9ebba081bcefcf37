//! What is worse about everything that differs from the best in one choice.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measure::{End, evaluation_s, planned};
use super::planned::Planned;
use crate::scenario::spec::Objective;
use crate::scenario::{Batch, Goals, Offer, Setup, SimulationError};

/// Two figures this near to each other are the same to anybody who plans.
const SAME: f64 = 5e-4;

/// What differs from the best in one choice, and why it loses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Neighbour {
    /// What is chosen otherwise, such as `accelerators`.
    pub choice: String,
    /// What the best has.
    pub best: String,
    /// What this one has.
    pub instead: String,
    /// What that takes; none if it is not possible.
    pub planned: Option<Planned>,
    /// Why it loses.
    pub loses: String,
}

/// One other choice.
struct Other {
    choice: &'static str,
    best: String,
    instead: String,
    setup: Setup,
    epochs: Option<f64>,
}

/// The neighbours of `best`, choice by choice: of lists in order the next smaller and the next larger
/// value, of others all.
pub(super) fn neighbours(
    offer: &Offer,
    goals: &Goals,
    best: &Planned,
) -> Result<Vec<Neighbour>, SimulationError> {
    others(offer, best)
        .into_par_iter()
        .map(|Other { choice, best: has, instead, setup, epochs }| {
            let (planned, loses) = match look(offer, best.offer, &setup, epochs)? {
                Ok(planned) => {
                    let loses = loses(goals, best, &planned);
                    (Some(planned), loses)
                }
                Err(why) => (None, why),
            };
            Ok(Neighbour { choice: choice.to_owned(), best: has, instead, planned, loses })
        })
        .collect()
}

/// What `setup` takes, or why it is not possible.
fn look(
    offer: &Offer,
    at: usize,
    setup: &Setup,
    epochs: Option<f64>,
) -> Result<Result<Planned, String>, SimulationError> {
    let case = match offer.case_for(setup, epochs) {
        Ok(case) => case,
        Err(problem) => return Ok(Err(format!("not possible: {}", problem.problem))),
    };
    let Some(epochs) = case.epochs else {
        return Ok(Err("does not reach the target accuracy".to_owned()));
    };
    let end = End { epochs, outcome: case.outcome.clone() };
    let step_ms = case.mean_step_ms(super::ENGINE)?;
    let planned = planned(&case, (at, *setup), &end, step_ms, evaluation_s(&case)?);
    if !planned.ends() {
        return Ok(Err("does not end: failures come faster than training goes on".to_owned()));
    }
    Ok(Ok(planned))
}

/// Why `planned` loses against `best`.
fn loses(goals: &Goals, best: &Planned, planned: &Planned) -> String {
    let mut reasons = goals.missed(planned);
    if reasons.is_empty() {
        let time = ("takes", planned.time_to_train_min / best.time_to_train_min, "more time");
        let cost = ("costs", planned.cost_usd / best.cost_usd, "more");
        let first = match goals.minimize {
            Objective::Time => [time, cost],
            Objective::Cost => [cost, time],
        };
        let worse = first.iter().find(|(_, ratio, _)| *ratio > 1.0 + SAME);
        reasons.push(match worse {
            Some((verb, ratio, what)) => format!("{verb} {:.1} % {what}", 100.0 * (ratio - 1.0)),
            None => "makes no difference".to_owned(),
        });
    }
    reasons.join("; ")
}

/// The values beside `has` in a list: the next smaller and the next larger.
fn beside<T: PartialOrd + Copy>(values: &[T], has: T) -> Vec<T> {
    let by = |a: &&T, b: &&T| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
    let below = values.iter().filter(|value| **value < has).max_by(by);
    let above = values.iter().filter(|value| **value > has).min_by(by);
    below.into_iter().chain(above).copied().collect()
}

fn others(offer: &Offer, best: &Planned) -> Vec<Other> {
    let setup = best.setup;
    let given = Some(best.epochs).filter(|_| offer.chooses_epochs());
    let mut others = Vec::new();
    let mut add = |choice, best: String, instead: String, setup: Setup, epochs: Option<f64>| {
        others.push(Other { choice, best, instead, setup, epochs });
    };
    for accelerators in beside(&offer.accelerators, setup.accelerators) {
        let other = Setup { accelerators, ..setup };
        let (has, instead) = (setup.accelerators.to_string(), accelerators.to_string());
        add("accelerators", has, instead, other, given);
    }
    let images = |batch: &Batch| match batch {
        Batch::Each(images) | Batch::Global(images) => *images,
    };
    let all: Vec<u64> = offer.batches.iter().map(images).collect();
    for batch in beside(&all, images(&setup.batch)) {
        let (name, other) = match setup.batch {
            Batch::Each(_) => ("batch each", Batch::Each(batch)),
            Batch::Global(_) => ("global batch", Batch::Global(batch)),
        };
        let other = Setup { batch: other, ..setup };
        add(name, images(&setup.batch).to_string(), batch.to_string(), other, given);
    }
    if let Some(has) = given {
        let all: Vec<f64> = offer.epochs.iter().flatten().copied().collect();
        for epochs in beside(&all, has) {
            add("epochs", has.to_string(), epochs.to_string(), setup, Some(epochs));
        }
    }
    for optimizer in offer.optimizers.iter().flatten() {
        if *optimizer != best.optimizer {
            let other = Setup { optimizer: Some(*optimizer), ..setup };
            add("optimizer", best.optimizer.to_string(), optimizer.to_string(), other, given);
        }
    }
    if best.accelerators == 1 {
        // Nothing is all-reduced.
        return others;
    }
    for algorithm in offer.algorithms.iter().flatten() {
        if Some(*algorithm) != setup.algorithm {
            // The first group size, where the best's algorithm has none.
            let group = setup.group.or(offer.groups[0]).filter(|_| algorithm.has_groups());
            let other = Setup { algorithm: Some(*algorithm), group, ..setup };
            add("algorithm", best.algorithm.clone(), algorithm.to_string(), other, given);
        }
    }
    if let Some(has) = setup.group {
        let all: Vec<u32> = offer.groups.iter().flatten().copied().collect();
        for group in beside(&all, has) {
            let other = Setup { group: Some(group), ..setup };
            add("group", has.to_string(), group.to_string(), other, given);
        }
    }
    if let Some(has) = setup.threshold {
        let all: Vec<_> = offer.thresholds.iter().flatten().copied().collect();
        for threshold in beside(&all, has) {
            let other = Setup { threshold: Some(threshold), ..setup };
            add("threshold", has.to_string(), threshold.to_string(), other, given);
        }
    }
    if let Some(has) = setup.overlap {
        for overlap in offer.overlaps.iter().flatten().filter(|on| **on != has) {
            let name = |on: bool| if on { "on" } else { "off" }.to_owned();
            let other = Setup { overlap: Some(*overlap), ..setup };
            add("overlap", name(has), name(*overlap), other, given);
        }
    }
    others
}

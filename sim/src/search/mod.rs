//! The search: of everything that can be chosen, the best that keeps to the limits, and the frontier
//! of time against cost against accuracy.
//!
//! Whatever is found is what [`crate::forecast`] says of the same point. What is passed over:
//!
//! 1. Accuracy needs no simulation, and neither does compute: no step is shorter than its compute.
//! 2. A step without jitter is not longer than the mean with it, since the end of a step is convex in
//!    the times that vary (Jensen's inequality; `bound` says what is left of chance).
//! 3. Of choices that differ in the all-reduce and its fusion only, those whose step without jitter, or
//!    whose first steps with it, are longer than the shortest by more than jitter makes a difference.
//! 4. All else is simulated as `simulate` does.
//!
//! The best bounds come first, so that good choices rule out the others early, and in batches of a fixed
//! size, so that results do not depend on the number of threads.

mod bound;
mod curve;
mod frontier;
mod measure;
mod neighbour;
mod planned;
#[cfg(test)]
mod tests;
mod walk;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use neighbour::Neighbour;
pub use planned::{GoalsNote, Planned};

use crate::collective::Engine;
use crate::forecast::{self, Header, InputNote, Point, Warning};
use crate::scenario::{SimulationError, Space};

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Effort {
    /// Combinations of everything that can be chosen.
    pub candidates: u64,
    /// Of these, not possible: they do not fit the memory, groups do not divide, or no number of epochs
    /// reaches the target.
    pub impossible: u64,
    /// Of these, less accurate than the least.
    pub ruled_out_by_accuracy: u64,
    /// Of these, ruled out by what compute alone takes.
    pub ruled_out_by_compute: u64,
    /// Of these, ruled out by a step without jitter, or by few with it.
    pub ruled_out_by_a_step: u64,
    /// Of these, simulated as `simulate` does.
    pub simulated: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// What made it.
    pub foretrain: Header,
    /// What was looked for.
    pub goals: GoalsNote,
    /// The best; none if nothing keeps to the limits.
    pub best: Option<Planned>,
    /// The forecast of the best, as `simulate` has it.
    pub best_point: Option<Point>,
    /// Why there is none, or which limit decides.
    pub verdict: String,
    /// The best of each other variant that keeps to the limits, best first.
    pub best_of_others: Vec<Planned>,
    /// What is worse about everything that differs from the best in one choice.
    pub neighbours: Vec<Neighbour>,
    /// Nothing is faster, cheaper and more accurate than any of these; with the least accuracy, whatever
    /// the deadline and the budget; fastest first.
    pub frontier: Vec<Planned>,
    /// The frontier of each variant by itself, fastest first.
    pub frontiers: Vec<Planned>,
    /// The fastest on each number of accelerators that reaches the least accuracy, variant by variant.
    pub fastest: Vec<Planned>,
    /// How much was looked at.
    pub effort: Effort,
    /// What the best rests on.
    pub inputs: Vec<InputNote>,
    /// What a reader should keep in mind about the best.
    pub warnings: Vec<Warning>,
}

/// Searches `space`; `progress` is told how much of it is done, from 0 to 1.
///
/// # Errors
/// If a possible point cannot be simulated; there is none.
pub fn plan(space: &Space, progress: impl Fn(f64) + Sync) -> Result<Plan, SimulationError> {
    let goals = &space.goals;
    let mut effort = Effort::default();
    let mut found = Vec::new();
    let mut fastest = Vec::new();
    for (at, offer) in space.offers.iter().enumerate() {
        let share = 1.0 / space.offers.len() as f64;
        let part = |done: f64| progress((at as f64 + done) * share);
        let mut walk = walk::Walk::new(offer, at, goals.top1_min_percent);
        found.extend(walk.frontier(&|done| part(0.7 * done))?);
        fastest.extend(curve::fastest(&mut walk, &|done| part(0.7 + 0.3 * done))?);
        effort = effort.plus(walk.effort());
    }
    let kept = |planned: &&Planned| goals.keeps(planned);
    let mut best = found.iter().filter(kept).min_by(|a, b| goals.order(a, b)).cloned();
    let mut neighbours = Vec::new();
    while let Some(now) = &best {
        neighbours = neighbour::neighbours(&space.offers[now.offer], goals, now)?;
        // What the rule of thumb passed over wrongly is here if anywhere.
        let others = neighbours.iter().filter_map(|other| other.planned.as_ref()).filter(kept);
        let better = others.filter(|other| goals.order(other, now).is_lt());
        let Some(better) = better.min_by(|a, b| goals.order(a, b)).cloned() else { break };
        for old in &mut fastest {
            let same = (old.offer, old.accelerators) == (better.offer, better.accelerators);
            if same && better.time_to_train_min < old.time_to_train_min {
                *old = better.clone();
            }
        }
        found.push(better.clone());
        best = Some(better);
    }
    let mut frontiers = Vec::new();
    for at in 0..space.offers.len() {
        let of_offer: Vec<Planned> = found.iter().filter(|p| p.offer == at).cloned().collect();
        frontiers.extend(frontier::non_dominated(&of_offer));
    }
    let found = frontiers;
    let frontier = frontier::non_dominated(&found);
    let mut best_of_others: Vec<Planned> = Vec::new();
    for at in 0..space.offers.len() {
        let of_offer = found.iter().filter(|planned| planned.offer == at).filter(kept);
        let Some(best_of_offer) = of_offer.min_by(|a, b| goals.order(a, b)) else { continue };
        if best.as_ref().is_some_and(|best| best.offer != at) {
            best_of_others.push(best_of_offer.clone());
        }
    }
    best_of_others.sort_by(|a, b| goals.order(a, b));
    let answer = best
        .as_ref()
        .map(|best| {
            let offer = &space.offers[best.offer];
            let case =
                offer.case_for(&best.setup, Some(best.epochs).filter(|_| offer.chooses_epochs()));
            case.map(|case| forecast::of_cases(space, vec![case]))
        })
        .and_then(Result::ok)
        .transpose()?;
    let header = answer.as_ref().map_or_else(|| forecast::header(space), |a| a.foretrain.clone());
    let verdict = goals.verdict(best.as_ref(), &found);
    progress(1.0);
    Ok(Plan {
        foretrain: header,
        goals: GoalsNote::from(*goals),
        verdict,
        best_of_others,
        neighbours,
        frontier,
        frontiers: found,
        fastest,
        effort,
        best_point: answer.as_ref().and_then(|answer| answer.points.first().cloned()),
        inputs: answer.as_ref().map(|answer| answer.inputs.clone()).unwrap_or_default(),
        warnings: answer.map(|answer| answer.warnings).unwrap_or_default(),
        best,
    })
}

/// The engine of every search: the one that folds what is provably the same.
const ENGINE: Engine = Engine::Folded;

impl Effort {
    const fn plus(self, other: Self) -> Self {
        Self {
            candidates: self.candidates + other.candidates,
            impossible: self.impossible + other.impossible,
            ruled_out_by_accuracy: self.ruled_out_by_accuracy + other.ruled_out_by_accuracy,
            ruled_out_by_compute: self.ruled_out_by_compute + other.ruled_out_by_compute,
            ruled_out_by_a_step: self.ruled_out_by_a_step + other.ruled_out_by_a_step,
            simulated: self.simulated + other.simulated,
        }
    }
}

//! The walk through one offer, cell by cell, best bounds first.
//!
//! A *cell* is what has the same compute: one number of accelerators, one batch, one optimizer. Only the
//! all-reduce and its fusion differ in it, and only the time of a step tells its choices apart.

use rayon::prelude::*;

use super::Effort;
use super::bound;
use super::frontier::{Archive, Measure, non_dominated};
use super::measure::{End, evaluation_s, measure, planned};
use super::planned::Planned;
use crate::compute::Optimizer;
use crate::scenario::{Case, Offer, Setup, SimulationError};

/// Cells that are looked at before the next ones know what was found: the same however many threads
/// there are.
const BATCH: usize = 8;

/// How far a choice was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    /// Compute alone was enough.
    Compute,
    /// A step without jitter was enough.
    Step,
    /// It was simulated.
    Simulated,
}

/// A choice that is possible.
#[derive(Debug, Clone)]
struct Choice {
    setup: Setup,
    seen: Seen,
}

/// Choices with the same compute and the same ends.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) accelerators: u32,
    optimizer: Optimizer,
    global_batch: u64,
    /// When training may end, where it reaches the least accuracy.
    ends: Vec<End>,
    /// What each takes at least, by compute alone.
    pub(super) bounds: Vec<Measure>,
    choices: Vec<Choice>,
    /// The candidates of its best choice, once they are known.
    best: Option<Vec<Planned>>,
}

/// One offer's choices.
pub(super) struct Walk<'a> {
    pub(super) offer: &'a Offer,
    at: usize,
    pub(super) cells: Vec<Cell>,
    effort: Effort,
}

impl<'a> Walk<'a> {
    /// Every possible choice of `offer`, number `at`, that reaches `top1_min` percent.
    pub(super) fn new(offer: &'a Offer, at: usize, top1_min: Option<f64>) -> Self {
        let setups: Vec<Setup> = offer.setups().collect();
        let cases: Vec<Option<(Cell, u64)>> = setups
            .par_iter()
            .map(|setup| Some(cell(offer, &offer.case(setup).ok()?, setup, top1_min)))
            .collect();
        let ends = offer.epochs.len() as u64;
        let mut effort = Effort { candidates: setups.len() as u64 * ends, ..Effort::default() };
        let mut cells: Vec<Cell> = Vec::new();
        for found in cases {
            let Some((new, inaccurate)) = found else {
                effort.impossible += ends;
                continue;
            };
            effort.impossible += ends - inaccurate - new.ends.len() as u64;
            effort.ruled_out_by_accuracy += inaccurate;
            // Choices of a cell follow each other.
            match cells.last_mut().filter(|last| last.is_of(&new)) {
                Some(last) => last.add(new),
                None => cells.push(new),
            }
        }
        Self { offer, at, cells, effort }
    }

    /// What was looked at, until now.
    pub(super) fn effort(&self) -> Effort {
        let mut effort = self.effort;
        for cell in &self.cells {
            for choice in &cell.choices {
                let count = match choice.seen {
                    Seen::Compute => &mut effort.ruled_out_by_compute,
                    Seen::Step => &mut effort.ruled_out_by_a_step,
                    Seen::Simulated => &mut effort.simulated,
                };
                *count += cell.ends.len() as u64;
            }
        }
        effort
    }

    /// The frontier of this offer by itself.
    pub(super) fn frontier(
        &mut self,
        progress: &(dyn Fn(f64) + Sync),
    ) -> Result<Vec<Planned>, SimulationError> {
        let promise = |cell: &Cell| {
            let products = cell.bounds.iter().map(|bound| bound.minutes * bound.cost_usd);
            products.fold(f64::INFINITY, f64::min)
        };
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        order.sort_by(|a, b| promise(&self.cells[*a]).total_cmp(&promise(&self.cells[*b])));
        let mut archive = Archive::default();
        let mut found = Vec::new();
        for (number, batch) in order.chunks(BATCH).enumerate() {
            let looked: Vec<Cell> = batch
                .par_iter()
                .map(|&index| self.looked(&self.cells[index], &|bound| archive.dominates(bound)))
                .collect::<Result<_, SimulationError>>()?;
            for (&index, cell) in batch.iter().zip(looked) {
                for planned in cell.best.iter().flatten() {
                    archive.add(planned.measure());
                    found.push(planned.clone());
                }
                self.cells[index] = cell;
            }
            progress(((number + 1) * BATCH) as f64 / order.len().max(BATCH) as f64);
        }
        Ok(non_dominated(&found))
    }

    /// The cell, looked at as far as it takes to rule it out, or to know its best choice.
    ///
    /// Which choice of a cell is best is told by a step without jitter, among those that are near it by a
    /// few with jitter, and among those that are near then by as many as `simulate` takes; all choices see
    /// the same draws of jitter.
    pub(super) fn looked(
        &self,
        cell: &Cell,
        ruled_out: &dyn Fn(&Measure) -> bool,
    ) -> Result<Cell, SimulationError> {
        let mut cell = cell.clone();
        if cell.best.is_some() || cell.bounds.iter().all(ruled_out) {
            return Ok(cell);
        }
        let mut running = Vec::with_capacity(cell.choices.len());
        for choice in &mut cell.choices {
            choice.seen = Seen::Step;
            // It was resolved before.
            let Ok(case) = self.offer.case(&choice.setup) else { continue };
            let at_least = bound::of_one_step(&case)?;
            running.push(Running { choice, case, step_s: at_least });
        }
        keep_near(&mut running, bound::near);
        // What of the cell is left may be ruled out as a whole.
        let mut kept = Vec::with_capacity(running.len());
        for run in running {
            let evaluation_s = evaluation_s(&run.case)?;
            let may_matter = run.step_s.is_none_or(|step_s| {
                let at_least = step_s * bound::certain(&run.case);
                let bound = |end| measure(&run.case, end, at_least, evaluation_s);
                !cell.ends.iter().all(|end| ruled_out(&bound(end)))
            });
            if may_matter {
                kept.push((run, evaluation_s));
            }
        }
        if kept.len() > 1 {
            for (run, _) in &mut kept {
                run.step_s = bound::of_few_steps(&run.case)?;
            }
            let near = bound::near_in_few_steps;
            let least = least(kept.iter().map(|(run, _)| run));
            kept.retain(|(run, _)| run.step_s.is_none_or(|step| step <= least * near(&run.case)));
        }
        let mut best: Option<(f64, Vec<Planned>)> = None;
        for (Running { choice, case, .. }, evaluation_s) in kept {
            let step_ms = case.mean_step_ms(super::ENGINE)?;
            choice.seen = Seen::Simulated;
            let of = (self.at, choice.setup);
            let planned =
                cell.ends.iter().map(|end| planned(&case, of, end, step_ms, evaluation_s));
            // Some may not end for all their failures.
            let planned: Vec<Planned> = planned.filter(Planned::ends).collect();
            if planned.is_empty() {
                continue;
            }
            let training_s = |end: &End| case.training_s(end.epochs, step_ms / 1e3, evaluation_s);
            let total = cell.ends.iter().map(training_s).sum::<f64>();
            if best.as_ref().is_none_or(|(least, _)| total < *least) {
                best = Some((total, planned));
            }
        }
        cell.best = best.map(|(_, planned)| planned);
        Ok(cell)
    }
}

/// A choice of a cell that may yet be its best.
struct Running<'a> {
    choice: &'a mut Choice,
    case: Case,
    /// Seconds of a step, as far as it was looked at; none if that cannot be told from few steps.
    step_s: Option<f64>,
}

/// The shortest step that is known.
fn least<'a, 'b: 'a>(running: impl Iterator<Item = &'a Running<'b>>) -> f64 {
    running.filter_map(|run| run.step_s).fold(f64::INFINITY, f64::min)
}

/// Leaves those whose step is at most `near` times as long as the shortest.
fn keep_near(running: &mut Vec<Running<'_>>, near: impl Fn(&Case) -> f64) {
    let least = least(running.iter());
    running.retain(|run| run.step_s.is_none_or(|step_s| step_s <= least * near(&run.case)));
}

impl Cell {
    /// With the choices of `other`, which may compute faster: a profile knows what overlap costs.
    fn add(&mut self, other: Self) {
        for (bound, other) in self.bounds.iter_mut().zip(&other.bounds) {
            bound.minutes = bound.minutes.min(other.minutes);
            bound.cost_usd = bound.cost_usd.min(other.cost_usd);
        }
        self.choices.extend(other.choices);
    }

    fn is_of(&self, other: &Self) -> bool {
        (self.accelerators, self.global_batch, self.optimizer)
            == (other.accelerators, other.global_batch, other.optimizer)
    }

    /// The candidates of its best choice, if they are known.
    pub(super) fn best(&self) -> &[Planned] {
        self.best.as_deref().unwrap_or_default()
    }
}

/// The cell of a possible choice, and how many of its ends are not accurate enough.
fn cell(offer: &Offer, case: &Case, setup: &Setup, top1_min: Option<f64>) -> (Cell, u64) {
    let mut inaccurate = 0;
    let mut ends = Vec::new();
    for &epochs in &offer.epochs {
        let outcome = offer.outcome(case, epochs);
        let needed = match &outcome {
            Some(outcome) => outcome.epochs.as_ref().map(|epochs| epochs.value),
            None => epochs,
        };
        let Some(epochs) = needed else { continue };
        let end = End { epochs, outcome };
        if top1_min.is_some_and(|least| end.top1().is_none_or(|top1| top1 < least)) {
            inaccurate += 1;
        } else {
            ends.push(end);
        }
    }
    let step_s = bound::by_compute(case);
    let cell = Cell {
        accelerators: case.accelerators,
        optimizer: case.optimizer,
        global_batch: case.global_batch,
        bounds: ends.iter().map(|end| measure(case, end, step_s, 0.0)).collect(),
        ends,
        choices: vec![Choice { setup: *setup, seen: Seen::Compute }],
        best: None,
    };
    (cell, inaccurate)
}

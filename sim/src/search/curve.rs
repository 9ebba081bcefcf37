//! The fastest on each number of accelerators: where more of them stop paying.

use rayon::prelude::*;

use super::frontier::Measure;
use super::planned::Planned;
use super::walk::{Cell, Walk};
use crate::scenario::SimulationError;

/// The fastest of each number of accelerators that reaches the least accuracy, in increasing numbers.
pub(super) fn fastest(
    walk: &mut Walk<'_>,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Vec<Planned>, SimulationError> {
    let found: Vec<OfCount> = walk
        .offer
        .accelerators
        .par_iter()
        .map(|&count| of_count(walk, count))
        .collect::<Result<_, SimulationError>>()?;
    progress(1.0);
    let mut fastest = Vec::new();
    for (best, looked) in found {
        fastest.extend(best);
        for (index, cell) in looked {
            walk.cells[index] = cell;
        }
    }
    Ok(fastest)
}

/// The fastest on one number of accelerators, and the cells that were looked at for it.
type OfCount = (Option<Planned>, Vec<(usize, Cell)>);

/// The fastest on `count` accelerators, and what was looked at for it.
fn of_count(walk: &Walk<'_>, count: u32) -> Result<OfCount, SimulationError> {
    let least =
        |bounds: &[Measure]| bounds.iter().map(|bound| bound.minutes).fold(f64::INFINITY, f64::min);
    let mut order: Vec<usize> =
        (0..walk.cells.len()).filter(|&index| walk.cells[index].accelerators == count).collect();
    order.sort_by(|a, b| least(&walk.cells[*a].bounds).total_cmp(&least(&walk.cells[*b].bounds)));
    let mut best: Option<Planned> = None;
    let mut looked = Vec::new();
    for index in order {
        let limit = best.as_ref().map_or(f64::INFINITY, |best| best.time_to_train_min);
        if least(&walk.cells[index].bounds) > limit {
            break;
        }
        let cell = walk.looked(&walk.cells[index], &|bound| bound.minutes > limit)?;
        for planned in cell.best() {
            if best.as_ref().is_none_or(|best| is_faster(planned, best)) {
                best = Some(planned.clone());
            }
        }
        looked.push((index, cell));
    }
    Ok((best, looked))
}

/// By time, then by cost, then by accuracy.
fn is_faster(new: &Planned, old: &Planned) -> bool {
    let (new, old) = (new.measure(), old.measure());
    let order = new.minutes.total_cmp(&old.minutes).then(new.cost_usd.total_cmp(&old.cost_usd));
    order.then(old.top1_percent.total_cmp(&new.top1_percent)).is_lt()
}

//! The plan for people.

use comfy_table::Cell;
use foretrain_sim::scenario::spec::Objective;
use foretrain_sim::search::{Effort, GoalsNote, Plan, Planned};

use crate::table::{amount, epochs, header, minutes, ms, plain, right, thousands};

/// More of a frontier than this nobody reads; JSON and CSV have all.
const FRONTIER_ROWS: usize = 16;

/// The whole plan: what was looked for, the best, why others lose, the frontier.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = header(&plan.foretrain);
    text += &format!("\nLooked for {}\n", goals(&plan.goals));
    match &plan.best {
        None => text += &format!("Found nothing: {}\n", plan.verdict),
        Some(best) => {
            text += &format!("\nBest: {}\n", plan.verdict);
            text += &candidates(std::slice::from_ref(best));
        }
    }
    if !plan.best_of_others.is_empty() {
        text += "\nBest of the other variants\n";
        text += &candidates(&plan.best_of_others);
    }
    if !plan.neighbours.is_empty() {
        text += "\nWhy its neighbours lose\n";
        text += &neighbours(plan);
    }
    if !plan.frontier.is_empty() {
        let shown = spread(&plan.frontier, FRONTIER_ROWS);
        let all = plan.frontier.len();
        text += "\nFrontier: nothing else is as fast, as cheap and as accurate";
        if shown.len() < all {
            text += &format!(" ({} of {all}; --format json or csv has all)", shown.len());
        }
        text += "\n";
        text += &candidates(&shown);
    }
    if plan.fastest.len() > 1 {
        text += "\nWhere more accelerators stop paying: the fastest of each number\n";
        text += &sizes(plan);
    }
    text += &effort(&plan.effort);
    if !plan.inputs.is_empty() {
        text += "\nThe best rests on\n";
        for input in &plan.inputs {
            text += &format!("  {}: {}; {}\n", input.what, input.value, input.from);
        }
    }
    text
}

/// What is looked for, in words.
pub(crate) fn goals(goals: &GoalsNote) -> String {
    let GoalsNote { minimize, deadline_min, budget_usd, top1_min_percent } = goals;
    let mut text = match minimize {
        Objective::Time => "the least time",
        Objective::Cost => "the least cost",
    }
    .to_owned();
    let mut limits = Vec::new();
    limits.extend(deadline_min.map(|deadline| format!("in at most {}", minutes(deadline))));
    limits.extend(budget_usd.map(|budget| format!("for at most {} USD", amount(budget))));
    limits.extend(top1_min_percent.map(|top1| format!("with at least {top1} % top-1")));
    if !limits.is_empty() {
        text += &format!(" {}", limits.join(", "));
    }
    text
}

/// A table of candidates; columns that say nothing are left out.
fn candidates(rows: &[Planned]) -> String {
    let mut table = plain();
    let several = rows.iter().any(|row| row.variant.is_some());
    let accurate = rows.iter().any(|row| row.top1_percent.is_some());
    let mut heading: Vec<Cell> = several.then(|| Cell::new("variant")).into_iter().collect();
    heading.extend(["accele-\nrators", "batch\neach", "global\nbatch", "epochs"].map(right));
    heading.extend(["optimizer", "all-reduce", "fusion"].map(Cell::new));
    heading.extend(["step\nms", "images/s", "time to\ntrain", "cost\nUSD"].map(right));
    heading.extend(accurate.then(|| right("top-1\n%")));
    table.set_header(heading);
    for row in rows {
        let mut cells: Vec<Cell> = several
            .then(|| Cell::new(row.variant.clone().unwrap_or_default()))
            .into_iter()
            .collect();
        cells.extend([
            right(&thousands(f64::from(row.accelerators), 0)),
            right(&row.per_accelerator_batch.to_string()),
            right(&thousands(row.global_batch as f64, 0)),
            right(&epochs(row.epochs)),
            Cell::new(row.optimizer),
            Cell::new(all_reduce(row)),
            Cell::new(fusion(row)),
            right(&ms(row.step_ms)),
            right(&thousands(row.images_per_s, 0)),
            right(&minutes(row.time_to_train_min)),
            right(&amount(row.cost_usd)),
        ]);
        cells.extend(accurate.then(|| right(&top1(row))));
        table.add_row(cells);
    }
    format!("{}\n", table.trim_fmt())
}

fn all_reduce(row: &Planned) -> String {
    match row.group {
        Some(group) => format!("{}, groups of {group}", row.algorithm),
        None => row.algorithm.clone(),
    }
}

fn fusion(row: &Planned) -> String {
    let size = row.threshold.map_or_else(|| "as given".to_owned(), |size| size.to_string());
    if row.overlap { size } else { format!("{size}, no overlap") }
}

/// Accuracy with half its interval, where it has one.
fn top1(row: &Planned) -> String {
    match (row.top1_percent, row.top1_percent_low, row.top1_percent_high) {
        (Some(top1), Some(low), Some(high)) if high > low => {
            format!("{top1:.1} ± {:.1}", (high - low) / 2.0)
        }
        (Some(top1), ..) => format!("{top1:.1}"),
        (None, ..) => String::new(),
    }
}

fn neighbours(plan: &Plan) -> String {
    let mut table = plain();
    let mut heading = ["choice", "best has", "instead"].map(Cell::new).to_vec();
    heading.extend(["time to\ntrain", "cost\nUSD", "top-1\n%"].map(right));
    heading.push(Cell::new("why it loses"));
    table.set_header(heading);
    for neighbour in &plan.neighbours {
        let planned = neighbour.planned.as_ref();
        let show = |show: fn(&Planned) -> String| right(&planned.map(show).unwrap_or_default());
        table.add_row([
            Cell::new(&neighbour.choice),
            Cell::new(&neighbour.best),
            Cell::new(&neighbour.instead),
            show(|row| minutes(row.time_to_train_min)),
            show(|row| amount(row.cost_usd)),
            show(|row| row.top1_percent.map(|top1| format!("{top1:.1}")).unwrap_or_default()),
            Cell::new(&neighbour.loses),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// What each step to more accelerators saves, and what an hour saved costs.
fn sizes(plan: &Plan) -> String {
    let mut table = plain();
    let several = plan.fastest.iter().any(|row| row.variant.is_some());
    let mut heading: Vec<Cell> = several.then(|| Cell::new("variant")).into_iter().collect();
    heading.extend(
        [
            "accele-\nrators",
            "time to\ntrain",
            "cost\nUSD",
            "saved",
            "for more\nUSD",
            "of the time that\nperfect scaling saves",
        ]
        .map(right),
    );
    table.set_header(heading);
    for variant in plan.fastest.chunk_by(|left, right| left.variant == right.variant) {
        for (index, row) in variant.iter().enumerate() {
            let mut cells: Vec<Cell> = several
                .then(|| Cell::new(row.variant.clone().unwrap_or_default()))
                .into_iter()
                .collect();
            cells.extend([
                right(&thousands(f64::from(row.accelerators), 0)),
                right(&minutes(row.time_to_train_min)),
                right(&amount(row.cost_usd)),
            ]);
            if let Some(before) = index.checked_sub(1).map(|index| &variant[index]) {
                let saved = before.time_to_train_min - row.time_to_train_min;
                let perfect = before.time_to_train_min
                    * (1.0 - f64::from(before.accelerators) / f64::from(row.accelerators));
                cells.extend([
                    right(&signed_minutes(saved)),
                    right(&signed_amount(row.cost_usd - before.cost_usd)),
                    right(&format!("{:.0} %", 100.0 * saved / perfect)),
                ]);
            }
            table.add_row(cells);
        }
    }
    format!("{}\n", table.trim_fmt())
}

fn signed_amount(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:+.2}") } else { format!("{value:+.0}") }
}

fn signed_minutes(value: f64) -> String {
    if value < 0.0 { format!("-{}", minutes(-value)) } else { minutes(value) }
}

fn effort(effort: &Effort) -> String {
    let count = |value: u64| thousands(value as f64, 0);
    let Effort {
        candidates,
        impossible,
        ruled_out_by_accuracy,
        ruled_out_by_compute,
        ruled_out_by_a_step,
        simulated,
    } = effort;
    format!(
        "\n{} candidates: {} not possible, {} not accurate enough, {} ruled out by compute alone, {} by a \
         step without jitter, {} simulated\n",
        count(*candidates),
        count(*impossible),
        count(*ruled_out_by_accuracy),
        count(*ruled_out_by_compute),
        count(*ruled_out_by_a_step),
        count(*simulated)
    )
}

/// At most `most` of `rows`, the first and the last among them, evenly spread.
fn spread(rows: &[Planned], most: usize) -> Vec<Planned> {
    if rows.len() <= most {
        return rows.to_vec();
    }
    let last = rows.len() - 1;
    (0..most).map(|index| rows[(index * last + (most - 1) / 2) / (most - 1)].clone()).collect()
}

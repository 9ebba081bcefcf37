//! Panels of a plan: how accurate training becomes for its cost and for its time.

use foretrain_sim::search::{Plan, Planned};

use super::axis::{Axis, Style, TICK_GAP};
use super::panels::{Curve, Limit, Panel, Place, Stroke, values};
use super::plan::{Variant, best_note, curve};
use super::style;
use crate::table::{amount, minutes};

/// Accuracies that differ by less, in points, are the same.
const SAME_POINTS: f64 = 0.02;

/// How accurate training becomes for its cost in time, and for its time within the budget.
pub(super) fn accuracies(plan: &Plan, variants: &[Variant<'_>]) -> [Panel; 2] {
    let (deadline, budget) = (plan.goals.deadline_min, plan.goals.budget_usd);
    let in_time = |p: &Planned| deadline.is_none_or(|deadline| p.time_to_train_min <= deadline);
    let cheap = |p: &Planned| budget.is_none_or(|budget| p.cost_usd <= budget);
    let against_cost = accuracy(plan, variants, |p| p.cost_usd, in_time);
    let against_time = accuracy(plan, variants, |p| p.time_to_train_min, cheap);
    let [y_of_cost, y_of_time] = [&against_cost, &against_time].map(|curves| accuracy_axis(curves));
    let x = |curves: &[Curve], limit: Option<f64>| {
        let points = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
        points.chain(limit).collect::<Vec<f64>>().into_iter()
    };
    let costs =
        Axis::log("cost of a run", Style::Dollars, x(&against_cost, budget)).spaced(TICK_GAP);
    let times = Axis::minutes("time to train", x(&against_time, deadline)).spaced(TICK_GAP);
    let bar = if against_cost.iter().any(|curve| curve.stroke == Stroke::Bar) {
        " (bar: 95 % interval of the best)"
    } else {
        ""
    };
    let title = |what: &str, limit: Option<&str>| match limit {
        Some(limit) => format!("Accuracy against {what} {limit}{bar}"),
        None => format!("Accuracy against {what}{bar}"),
    };
    let least = plan
        .goals
        .top1_min_percent
        .map(|least| Limit { at: Place::Y(least), name: format!("at least {least} %") });
    let limit = |value: Option<f64>, name: &dyn Fn(f64) -> String| {
        let at = value.map(|value| Limit { at: Place::X(value), name: name(value) });
        at.into_iter().chain(least.clone()).collect()
    };
    let top1 = |p: &Planned| p.top1_percent.unwrap_or_default();
    let cost_title = title("cost", deadline.map(|_| "within the deadline"));
    let time_title = title("time", budget.map(|_| "within the budget"));
    [
        Panel {
            limits: limit(budget, &|budget| format!("budget {} USD", amount(budget))),
            notes: best_note(plan, variants, |p| (p.cost_usd, top1(p)), false)
                .into_iter()
                .collect(),
            ..Panel::new(&cost_title, costs, y_of_cost, against_cost)
        },
        Panel {
            limits: limit(deadline, &|deadline| format!("deadline {}", minutes(deadline))),
            notes: best_note(plan, variants, |p| (p.time_to_train_min, top1(p)), false)
                .into_iter()
                .collect(),
            ..Panel::new(&time_title, times, y_of_time, against_time)
        },
    ]
}

fn accuracy_axis(curves: &[Curve]) -> Axis {
    let ends = values(curves, &[])
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let ends = if ends.0 <= ends.1 { ends } else { (0.0, 100.0) };
    Axis::linear("top-1 at the end", Style::Percent, ends, 0.06)
}

/// A curve a variant: the highest accuracy for at most so much of `spent`, of what is `allowed`; and the
/// interval of the best.
fn accuracy(
    plan: &Plan,
    variants: &[Variant<'_>],
    spent: impl Fn(&Planned) -> f64,
    allowed: impl Fn(&Planned) -> bool,
) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for variant in variants {
        let of = variant.frontier.iter().filter(|planned| allowed(planned));
        let mut points: Vec<(f64, f64)> =
            of.filter_map(|planned| Some((spent(planned), planned.top1_percent?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        // More is spent in vain until the next point.
        let mut stairs: Vec<(f64, f64)> = Vec::new();
        for point in points {
            match stairs.last() {
                Some(last) if point.1 < last.1 + SAME_POINTS => {}
                Some(&(_, height)) => stairs.extend([(point.0, height), point]),
                None => stairs.push(point),
            }
        }
        curves.push(curve(variant.color, Stroke::Plain, stairs));
    }
    let interval = |best: &Planned| Some((best.top1_percent_low?, best.top1_percent_high?));
    if let Some((best, (low, high))) = plan.best.as_ref().and_then(|b| Some((b, interval(b)?)))
        && high > low
    {
        let x = spent(best);
        curves.push(curve(style::INK, Stroke::Bar, vec![(x, low), (x, high)]));
    }
    curves
}

//! The figure of a plan: cost against time, time against accelerators, where more of them stop paying,
//! and how accurate training becomes for its cost and its time.

use foretrain_sim::search::{Plan, Planned};
use plotters::style::RGBColor;

use super::axis::{Axis, Style};
use super::panels::{Curve, Figure, Limit, Note, Panel, Place, Sign, Stroke, values};
use super::{plan_accuracy, style};
use crate::plan::goals;
use crate::table::{amount, epochs, minutes, thousands};

/// Shares of what perfect scaling saves that are drawn; what lies beyond is drawn at the end.
const SHARES: (f64, f64) = (-100.0, 200.0);
/// Where more accelerators hardly pay.
const HALF: f64 = 50.0;

/// What is chosen of one variant.
pub(super) struct Variant<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) color: RGBColor,
    /// All that nothing else of the variant beats.
    pub(super) frontier: Vec<&'a Planned>,
    /// The fastest of each number of accelerators.
    fastest: Vec<&'a Planned>,
}

/// Nothing where nothing was found.
pub(super) fn figure(plan: &Plan) -> Option<Figure> {
    let variants = variants(plan);
    if variants.iter().all(|variant| variant.frontier.is_empty()) {
        return None;
    }
    let mut panels = vec![cost_against_time(plan, &variants)];
    panels.extend(time_against_accelerators(plan, &variants));
    panels.extend(savings(&variants));
    // One accuracy for all is no trade-off, and stands beside the best.
    let mut accuracies = plan.frontiers.iter().filter_map(|planned| planned.top1_percent);
    let first = accuracies.next();
    if accuracies.any(|top1| Some(top1) != first) {
        panels.extend(plan_accuracy::accuracies(plan, &variants));
    }
    let found = if plan.best.is_some() { "Best" } else { "Found nothing" };
    let subtitle = format!(
        "Looked for {}. {found}: {}.\n{}",
        goals(&plan.goals),
        plan.verdict,
        super::made_by(&plan.foretrain)
    );
    Some(Figure {
        title: plan.foretrain.scenario.clone(),
        description: description(plan, &variants),
        subtitle,
        legend: legend(plan, &variants, &panels),
        panels,
    })
}

/// The variants in the order of the scenario.
fn variants(plan: &Plan) -> Vec<Variant<'_>> {
    let mut variants: Vec<Variant<'_>> = Vec::new();
    let fastest = plan.fastest.iter().map(|planned| (planned, true));
    for (planned, is_fastest) in fastest.chain(plan.frontiers.iter().map(|p| (p, false))) {
        let name = planned.variant.as_deref();
        let index = variants.iter().position(|variant| variant.name == name);
        let index = index.unwrap_or(variants.len());
        if index == variants.len() {
            let color = style::curve(index);
            variants.push(Variant { name, color, frontier: Vec::new(), fastest: Vec::new() });
        }
        let variant = &mut variants[index];
        if is_fastest { &mut variant.fastest } else { &mut variant.frontier }.push(planned);
    }
    for variant in &mut variants {
        variant.fastest.sort_by_key(|planned| planned.accelerators);
    }
    variants
}

fn legend(
    plan: &Plan,
    variants: &[Variant<'_>],
    panels: &[Panel],
) -> Vec<(Sign, RGBColor, String)> {
    let name = |variant: &Variant<'_>| variant.name.unwrap_or("what can be chosen").to_owned();
    let mut legend: Vec<_> =
        variants.iter().map(|variant| (Sign::Line, variant.color, name(variant))).collect();
    let any = |has: &dyn Fn(&Panel) -> bool| panels.iter().any(has);
    let stroked = |stroke: Stroke| {
        any(&|panel: &Panel| panel.curves.iter().any(|curve| curve.stroke == stroke))
    };
    if plan.best.is_some() {
        legend.push((Sign::Ring, style::INK, "the best".to_owned()));
    }
    if stroked(Stroke::Halo) {
        legend.push((Sign::Halo, style::IDEAL, "nothing else is as fast and as cheap".to_owned()));
    }
    if any(&|panel: &Panel| !panel.dots.is_empty()) {
        legend.push((Sign::Dot, style::INK, "slower or dearer, but more accurate".to_owned()));
    }
    if stroked(Stroke::Thin) {
        legend.push((Sign::Dashes, style::IDEAL, "perfect scaling".to_owned()));
    }
    legend
}

/// Those of which no other is as fast and as cheap, fastest first.
fn envelope<'a>(all: impl IntoIterator<Item = &'a Planned>) -> Vec<&'a Planned> {
    let mut sorted: Vec<&Planned> = all.into_iter().collect();
    let by = |a: &&Planned, b: &&Planned| {
        let time = a.time_to_train_min.total_cmp(&b.time_to_train_min);
        time.then(a.cost_usd.total_cmp(&b.cost_usd))
    };
    sorted.sort_by(by);
    let mut kept: Vec<&Planned> = Vec::new();
    for planned in sorted {
        if kept.last().is_none_or(|last| planned.cost_usd < last.cost_usd) {
            kept.push(planned);
        }
    }
    kept
}

const fn place(planned: &Planned) -> (f64, f64) {
    (planned.time_to_train_min, planned.cost_usd)
}

pub(super) fn curve(color: RGBColor, stroke: Stroke, points: Vec<(f64, f64)>) -> Curve {
    Curve { color, stroke, points }
}

fn cost_against_time(plan: &Plan, variants: &[Variant<'_>]) -> Panel {
    let mut curves = Vec::new();
    if variants.len() > 1 {
        let best: Vec<_> = envelope(&plan.frontier).into_iter().map(place).collect();
        curves.push(curve(style::IDEAL, Stroke::Halo, best));
    }
    let mut dots = Vec::new();
    let mut notes: Vec<Note> = best_note(plan, variants, place, true).into_iter().collect();
    for variant in variants {
        let lower = envelope(variant.frontier.iter().copied());
        let others = variant.frontier.iter().filter(|planned| !lower.contains(planned));
        dots.extend(
            others.map(|planned| (variant.color, planned.time_to_train_min, planned.cost_usd)),
        );
        let mut last = None;
        for planned in &lower {
            // One of each number of accelerators.
            if last != Some(planned.accelerators) && plan.best.as_ref() != Some(*planned) {
                let lines = vec![count(planned)];
                notes.push(Note { at: place(planned), color: variant.color, lines, best: false });
            }
            last = Some(planned.accelerators);
        }
        let points = lower.into_iter().map(place).collect();
        curves.push(curve(variant.color, Stroke::Dotted, points));
    }
    let limits = limits(plan, Place::X, Some(Place::Y));
    let across = |limit: &Limit| match limit.at {
        Place::X(at) => Some(at),
        Place::Y(_) => None,
    };
    let up = |limit: &Limit| match limit.at {
        Place::Y(at) => Some(at),
        Place::X(_) => None,
    };
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let xs = points().map(|point| point.0).chain(dots.iter().map(|dot| dot.1));
    let ys = points().map(|point| point.1).chain(dots.iter().map(|dot| dot.2));
    let x = Axis::minutes("time to train", xs.chain(limits.iter().filter_map(across)));
    let title = "cost of a run";
    let y = Axis::log(title, Style::Dollars, ys.chain(limits.iter().filter_map(up)));
    let title = match (plan.goals.top1_min_percent, dots.is_empty()) {
        (Some(least), _) => format!(
            "Cost against time for at least {least} % top-1, with numbers of accelerators (lower left is best)"
        ),
        (None, _) => {
            "Cost against time, with numbers of accelerators (lower left is best)".to_owned()
        }
    };
    Panel { wide: true, dots, limits, notes, ..Panel::new(&title, x, y, curves) }
}

/// The deadline and the budget where an axis has them.
fn limits(plan: &Plan, time: impl Fn(f64) -> Place, cost: Option<fn(f64) -> Place>) -> Vec<Limit> {
    let mut limits = Vec::new();
    if let Some(deadline) = plan.goals.deadline_min {
        let name = format!("deadline {}", minutes(deadline));
        limits.push(Limit { at: time(deadline), name });
    }
    if let Some((budget, cost)) = plan.goals.budget_usd.zip(cost) {
        limits.push(Limit { at: cost(budget), name: format!("budget {} USD", amount(budget)) });
    }
    limits
}

fn count(planned: &Planned) -> String {
    thousands(f64::from(planned.accelerators), 0)
}

/// The best where a panel has it; in words, or as a ring only.
pub(super) fn best_note(
    plan: &Plan,
    variants: &[Variant<'_>],
    place: impl Fn(&Planned) -> (f64, f64),
    words: bool,
) -> Option<Note> {
    let best = plan.best.as_ref()?;
    let of = variants.iter().find(|variant| variant.name == best.variant.as_deref());
    let lines = if words { said(best).to_vec() } else { Vec::new() };
    Some(Note { at: place(best), color: of.map_or(style::INK, |of| of.color), lines, best: true })
}

/// What it is, and what it takes.
fn said(best: &Planned) -> [String; 2] {
    let what = match (&best.variant, best.accelerators) {
        (Some(variant), _) => variant.clone(),
        (None, 1) => "accelerator".to_owned(),
        (None, _) => "accelerators".to_owned(),
    };
    let optimizer = match best.optimizer.to_string().as_str() {
        "lars" => "LARS".to_owned(),
        other => other.to_owned(),
    };
    let top1 = match (best.top1_percent, best.top1_percent_low, best.top1_percent_high) {
        (Some(top1), Some(low), Some(high)) if high > low => {
            format!(", {top1:.1} % top-1 ({low:.1} to {high:.1})")
        }
        (Some(top1), ..) => format!(", {top1:.1} % top-1"),
        (None, ..) => String::new(),
    };
    [
        format!(
            "{} {what}, batch {} each, {} epochs, {optimizer}",
            count(best),
            thousands(best.per_accelerator_batch as f64, 0),
            epochs(best.epochs)
        ),
        format!("{}, {} USD{top1}", minutes(best.time_to_train_min), amount(best.cost_usd)),
    ]
}

/// None where nothing is known of several numbers of accelerators.
fn time_against_accelerators(plan: &Plan, variants: &[Variant<'_>]) -> Option<Panel> {
    let at = |planned: &Planned| (f64::from(planned.accelerators), planned.time_to_train_min);
    let mut curves = Vec::new();
    for variant in variants {
        let points: Vec<(f64, f64)> = variant.fastest.iter().map(|planned| at(planned)).collect();
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            let end = (last.0, first.1 * first.0 / last.0);
            curves.push(curve(variant.color, Stroke::Thin, vec![*first, end]));
        }
        curves.push(curve(variant.color, Stroke::Dotted, points));
    }
    let counts: Vec<f64> = variants
        .iter()
        .flat_map(|variant| variant.fastest.iter().map(|planned| at(planned).0))
        .chain(plan.best.iter().map(|best| at(best).0))
        .collect();
    if counts.iter().all(|count| *count == counts[0]) {
        return None;
    }
    let limits = limits(plan, Place::Y, None);
    let more = plan.goals.deadline_min.into_iter().chain(plan.best.iter().map(|best| at(best).1));
    let y = Axis::minutes("time to train", values(&curves, &[]).chain(more));
    let notes = best_note(plan, variants, at, false).into_iter().collect();
    let x = Axis::counts("accelerators", counts.into_iter());
    let title = "Time to train on the fastest of each number";
    Some(Panel { limits, notes, ..Panel::new(title, x, y, curves) })
}

/// What more accelerators save, of what perfect scaling would; none where no variant has several numbers.
fn savings(variants: &[Variant<'_>]) -> Option<Panel> {
    let saved = |before: &Planned, after: &Planned| {
        let minutes = before.time_to_train_min - after.time_to_train_min;
        let fewer = f64::from(before.accelerators) / f64::from(after.accelerators);
        let share = 100.0 * minutes / (before.time_to_train_min * (1.0 - fewer));
        (f64::from(after.accelerators), share.clamp(SHARES.0, SHARES.1))
    };
    let curves: Vec<Curve> = variants
        .iter()
        .map(|variant| {
            let pairs =
                variant.fastest.windows(2).filter(|p| p[0].accelerators < p[1].accelerators);
            let points = pairs.map(|pair| saved(pair[0], pair[1])).collect();
            curve(variant.color, Stroke::Dotted, points)
        })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    let x = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let x: Vec<f64> = x.collect();
    if x.is_empty() {
        return None;
    }
    let low = values(&curves, &[]).fold(0.0, f64::min);
    let high = values(&curves, &[]).fold(100.0, f64::max) * 1.06;
    let title = "saved, of what perfect scaling saves";
    let y = match low {
        0.0 => Axis::from_zero(title, Style::Percent, high),
        low => Axis::linear(title, Style::Percent, (low, high), 0.03),
    };
    let mut limits = vec![Limit { at: Place::Y(HALF), name: "half is lost".to_owned() }];
    if low < 0.0 {
        limits.push(Limit { at: Place::Y(0.0), name: "nothing is saved".to_owned() });
    }
    let x = Axis::counts("accelerators, against the next smaller number", x.into_iter());
    Some(Panel { limits, ..Panel::new("Where more accelerators stop paying", x, y, curves) })
}

/// The plan for readers who cannot see the figure.
fn description(plan: &Plan, variants: &[Variant<'_>]) -> String {
    let mut text = format!("Looked for {}. ", goals(&plan.goals));
    text += &match &plan.best {
        Some(best) => format!("Best: {}; {}.", said(best).join(": "), plan.verdict),
        None => format!("Found nothing: {}.", plan.verdict),
    };
    for variant in variants {
        let lower = envelope(variant.frontier.iter().copied());
        let (Some(fastest), Some(cheapest)) = (lower.first(), lower.last()) else { continue };
        let name = variant.name.map(|name| format!(" {name}")).unwrap_or_default();
        let say = |planned: &Planned| {
            let (time, cost) = (minutes(planned.time_to_train_min), amount(planned.cost_usd));
            format!("{}{name}: {time}, {cost} USD", count(planned))
        };
        text += &format!(" Fastest and cheapest{name}: {}; {}.", say(fastest), say(cheapest));
    }
    text
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

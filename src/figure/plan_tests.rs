use serde_json::{Value, json};

use super::*;
use crate::figure::{Kind, draw_plan};

/// Variant, accelerators, minutes, USD, top-1.
type Row<'a> = (Option<&'a str>, u32, f64, f64, Option<f64>);

fn planned((variant, accelerators, minutes, usd, top1): &Row<'_>) -> Value {
    json!({
        "variant": variant, "accelerators": accelerators, "nodes": 1, "per_accelerator_batch": 64,
        "global_batch": 64 * accelerators, "optimizer": "lars", "epochs": 80.0, "algorithm": "ring",
        "group": null, "threshold": "1 MiB", "overlap": true, "step_ms": 1.0, "images_per_s": 1.0,
        "time_to_train_min": minutes, "cost_usd": usd, "top1_percent": top1,
        "top1_percent_low": top1.map(|top1| top1 - 1.0), "top1_percent_high": top1.map(|top1| top1 + 1.0),
    })
}

fn plan_of(best: Option<usize>, frontiers: &[Row<'_>], fastest: &[Row<'_>]) -> Plan {
    let all = |rows: &[Row<'_>]| rows.iter().map(planned).collect::<Vec<Value>>();
    let zeros =
        ["impossible", "ruled_out_by_accuracy", "ruled_out_by_compute", "ruled_out_by_a_step"];
    let mut effort = json!({"candidates": 1, "simulated": 1});
    zeros.iter().for_each(|zero| effort[zero] = json!(0));
    serde_json::from_value(json!({
        "foretrain": {
            "version": "0", "scenario": "few & many", "source": null, "scenario_hash": "abc",
            "profile_hash": null, "seed": 1, "engine": "folded", "steps": 1,
        },
        "goals": {
            "minimize": "cost", "deadline_min": 720.0, "budget_usd": 1000.0, "top1_min_percent": 75.0,
        },
        "best": best.map(|best| planned(&frontiers[best])), "best_point": null,
        "verdict": "the cheapest there is; no limit binds", "best_of_others": [], "neighbours": [],
        "frontier": all(frontiers), "frontiers": all(frontiers), "fastest": all(fastest),
        "effort": effort, "inputs": [], "warnings": [],
    }))
    .unwrap()
}

fn svg(plan: &Plan) -> String {
    String::from_utf8(draw_plan(plan, Kind::Svg).unwrap()).unwrap()
}

const P40: Option<&str> = Some("P40");
const A100: Option<&str> = Some("A100");

fn two_variants() -> Plan {
    let frontiers = [
        (P40, 64, 100.0, 400.0, Some(75.0)),
        (P40, 8, 700.0, 300.0, Some(75.0)),
        (P40, 8, 710.0, 310.0, Some(76.0)),
        (A100, 64, 5.0, 40.0, Some(75.0)),
        (A100, 1, 250.0, 21.5, Some(75.1)),
    ];
    let fastest = [
        (A100, 1, 240.0, 21.0, Some(75.0)),
        (A100, 2, 120.0, 21.0, Some(75.0)),
        (A100, 4, 90.0, 21.0, Some(75.0)),
        (A100, 8, 100.0, 21.0, Some(75.0)),
        (P40, 8, 700.0, 300.0, Some(75.0)),
    ];
    plan_of(Some(4), &frontiers, &fastest)
}

#[test]
fn curves_are_what_nothing_is_as_fast_and_as_cheap_as() {
    let plan = two_variants();
    let figure = figure(&plan).unwrap();
    let panel = &figure.panels[0];
    let dotted: Vec<&Curve> =
        panel.curves.iter().filter(|curve| curve.stroke == Stroke::Dotted).collect();
    assert_eq!(dotted[0].points, [(5.0, 40.0), (250.0, 21.5)]);
    assert_eq!(dotted[1].points, [(100.0, 400.0), (700.0, 300.0)]);
    // What is dearer and slower is there for its accuracy.
    assert_eq!(panel.dots, [(dotted[1].color, 710.0, 310.0)]);
    let halo = panel.curves.iter().find(|curve| curve.stroke == Stroke::Halo).unwrap();
    assert_eq!(halo.points, dotted[0].points);
    let names: Vec<&str> = panel.limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, ["deadline 12.0 h", "budget 1,000 USD"]);
    assert_eq!(
        panel.notes[0].lines,
        ["1 A100, batch 64 each, 80 epochs, LARS", "4.2 h, 21.50 USD, 75.1 % top-1 (74.1 to 76.1)"]
    );
    assert!(panel.notes[0].best && panel.notes[0].color == dotted[0].color);
}

#[test]
fn more_accelerators_save_a_share_of_what_perfect_scaling_saves() {
    let plan = two_variants();
    let figure = figure(&plan).unwrap();
    let savings = &figure.panels[2];
    assert_eq!(savings.curves.len(), 1);
    // 120 of 120 min, 30 of 60, -10 of 45.
    let shares: Vec<(f64, f64)> =
        savings.curves[0].points.iter().map(|&(count, share)| (count, share.round())).collect();
    assert_eq!(shares, [(2.0, 100.0), (4.0, 50.0), (8.0, -22.0)]);
    assert!(savings.y.range.0 < -22.0 && savings.y.ticks.contains(&0.0));
    assert_eq!(savings.limits.len(), 2);
    let thin = figure.panels[1].curves.iter().find(|curve| curve.stroke == Stroke::Thin).unwrap();
    assert_eq!(thin.points, [(1.0, 240.0), (8.0, 30.0)]);
}

#[test]
fn accuracy_rises_with_what_is_spent_within_the_limits() {
    let mut plan = two_variants();
    plan.goals.deadline_min = Some(705.0);
    let figure = figure(&plan).unwrap();
    let [cost, time] = [&figure.panels[3], &figure.panels[4]];
    assert_eq!(
        cost.title,
        "Accuracy against cost within the deadline (bar: 95 % interval of the best)"
    );
    assert_eq!(cost.curves[0].points, [(21.5, 75.1)]);
    assert_eq!(cost.curves[1].points, [(300.0, 75.0)]);
    assert_eq!(time.curves[1].points, [(100.0, 75.0), (710.0, 75.0), (710.0, 76.0)]);
}

#[test]
fn a_figure_has_its_words_and_a_description() {
    let svg = svg(&two_variants());
    for word in [
        "few &amp; many",
        "Looked for the least cost in at most 12.0 h, for at most 1,000 USD",
        "the cheapest there is; no limit binds",
        "deadline 12.0 h",
        "Fastest and cheapest P40: 64 P40: 100.0 min, 400 USD; 8 P40: 11.7 h, 300 USD.",
    ] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(!svg.contains("NaN"));
}

#[test]
fn odd_plans_are_drawn_or_refused() {
    let one = [(None, 8, 100.0, 50.0, None)];
    let single = plan_of(Some(0), &one, &one);
    let drawn = figure(&single).unwrap();
    assert_eq!(drawn.panels.len(), 1);
    assert!(drawn.panels[0].curves.iter().all(|curve| curve.stroke == Stroke::Dotted));
    assert!(svg(&single).contains("8 accelerators, batch 64 each"));
    let mut free = plan_of(None, &one, &[]);
    (free.goals.deadline_min, free.goals.budget_usd, free.goals.top1_min_percent) =
        (None, None, None);
    assert!(svg(&free).contains("Found nothing"));
    let mut far = two_variants();
    (far.goals.deadline_min, far.goals.budget_usd) = (Some(1e-3), Some(1e9));
    assert!(!svg(&far).contains("NaN"));
    assert!(draw_plan(&plan_of(None, &[], &[]), Kind::Svg).is_err());
}

//! What a run takes and costs: by hand, with failures and without, and as variants of one scenario.

use super::*;
use crate::scenario::Overrides;

/// Eight accelerators of one node, which need 90 epochs.
fn scenario(extra: &str) -> String {
    format!(
        r#"
name = "test"
[cluster]
node = "dgx-1-v100"
[training]
model = "resnet50"
per_accelerator_batch = 64
epochs = 90
precision = "fp16-mixed"
[compute]
anchor = "1200 images/s at 128"
[simulation]
steps = 4
{extra}
[sweep]
accelerators = [8]
"#
    )
}

fn run(extra: &str) -> Forecast {
    let scenario = Scenario::from_toml(&scenario(extra), Overrides::default()).unwrap();
    forecast(&scenario, Engine::Folded, || {}).unwrap()
}

fn point(extra: &str) -> Point {
    run(extra).points.remove(0)
}

const COST: &str = "[cost]\nprice = \"3 USD/h\"\npower = \"500 W\"\n";
const FAILURES: &str = "[failures]\nnode_mtbf = \"20 h\"\ncheckpoint_time = \"20 s\"\n\
                        restart_time = \"5 min\"\n";

#[test]
fn nothing_of_failures_is_said_without_them() {
    let point = point(COST);
    assert_eq!(point.goodput_percent, None);
    assert_eq!((point.interruptions, point.lost_min), (None, None));
    assert_eq!(point.checkpoint_interval_min, None);
}

#[test]
fn idle_power_is_drawn_while_nothing_is_computed() {
    let full = point(COST);
    let shared = point(&format!("{COST}idle_power = \"100 W\"\n"));
    let busy = full.accelerator_busy_percent / 100.0;
    assert!(busy < 1.0);
    let expected = full.energy_kwh.unwrap() * (100.0 + 400.0 * busy) / 500.0;
    assert!((shared.energy_kwh.unwrap() / expected - 1.0).abs() < 1e-12);
    assert_eq!(shared.cost_usd, full.cost_usd);
}

#[test]
fn failures_make_the_run_longer_and_dearer() {
    let calm = point(COST);
    let failing = point(&format!("{COST}{FAILURES}"));
    let minutes = |point: &Point| point.time_to_train_min.unwrap();
    let lost = failing.lost_min.unwrap();
    assert!((minutes(&failing) - minutes(&calm) - lost).abs() < 1e-9 && lost > 0.0);
    let goodput = failing.goodput_percent.unwrap();
    assert!((goodput - 100.0 * minutes(&calm) / minutes(&failing)).abs() < 1e-9);
    let ratio = minutes(&failing) / minutes(&calm);
    assert!((failing.cost_usd.unwrap() / calm.cost_usd.unwrap() - ratio).abs() < 1e-9);
    assert!((failing.energy_kwh.unwrap() / calm.energy_kwh.unwrap() - ratio).abs() < 1e-9);
    assert!((failing.interruptions.unwrap() - minutes(&failing) / 1200.0).abs() < 1e-9);
    assert!(failing.lost_min_low.unwrap() < lost && failing.lost_min_high.unwrap() > lost);
    assert_eq!(failing.checkpoint_interval_min, failing.checkpoint_interval_daly_min);
    // √(2 · 20 s · 72,000 s) = 1697 s.
    assert!((failing.checkpoint_interval_young_min.unwrap() - 28.284_271).abs() < 1e-5);
    assert_eq!(failing.images_per_s, calm.images_per_s);
}

#[test]
fn checkpoints_and_restarts_draw_idle_power() {
    // Nothing fails, half an hour of training and half an hour of checkpoint in turn.
    let failures = "[failures]\ncheckpoint_every = \"30 min\"\ncheckpoint_time = \"30 min\"\n";
    let cost = format!("{COST}idle_power = \"0 W\"\n");
    let (calm, failing) = (point(&cost), point(&format!("{cost}{failures}")));
    assert!((failing.energy_kwh.unwrap() / calm.energy_kwh.unwrap() - 1.0).abs() < 1e-12);
    let checkpoints = (calm.time_to_train_min.unwrap() / 30.0).ceil() - 1.0;
    assert!(checkpoints > 3.0);
    assert!((failing.lost_min.unwrap() - 30.0 * checkpoints).abs() < 1e-9);
    assert_eq!((failing.lost_min_low, failing.lost_min_high), (failing.lost_min, failing.lost_min));
    assert_eq!((failing.interruptions, failing.checkpoint_interval_young_min), (None, None));
}

#[test]
fn more_nodes_fail_more_often() {
    let text = scenario(FAILURES).replace("accelerators = [8]", "accelerators = [8, 32]");
    let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
    let points = forecast(&scenario, Engine::Folded, || {}).unwrap().points;
    let intervals = [0, 1].map(|at| points[at].checkpoint_interval_young_min.unwrap());
    assert!((intervals[0] / intervals[1] - 2.0).abs() < 1e-9, "{intervals:?}");
    let rates =
        [0, 1].map(|at| points[at].interruptions.unwrap() / points[at].time_to_train_min.unwrap());
    assert!((rates[1] / rates[0] - 4.0).abs() < 1e-9, "{rates:?}");
}

#[test]
fn a_run_without_end_has_no_time() {
    let forecast = run(&format!("{COST}{}", FAILURES.replace("20 h", "5 s")));
    let point = &forecast.points[0];
    assert_eq!((point.goodput_percent, point.time_to_train_min), (Some(0.0), None));
    assert_eq!((point.cost_usd, point.energy_kwh), (None, None));
    assert!(forecast.warnings.iter().any(|warning| warning.code == WarningCode::NeverEnds));
}

#[test]
fn goodput_needs_no_epochs() {
    let text = scenario(FAILURES).replace("epochs = 90\n", "");
    let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
    let point = forecast(&scenario, Engine::Folded, || {}).unwrap().points.remove(0);
    let goodput = point.goodput_percent.unwrap();
    assert!(goodput > 90.0 && goodput < 99.0, "{goodput}");
    assert_eq!((point.time_to_train_min, point.lost_min), (None, None));
}

#[test]
fn on_demand_and_spot_are_two_variants() {
    let extra = "[failures]\ncheckpoint_time = \"20 s\"\nrestart_time = \"5 min\"\n\
                 [[variant]]\nname = \"on demand\"\ncost = { price = \"3 USD/h\" }\n\
                 failures = { node_mtbf = \"2000 days\" }\n\
                 [[variant]]\nname = \"spot\"\ncost = { price = \"1 USD/h\" }\n\
                 failures = { node_mtbf = \"20 h\" }\n";
    let forecast = run(extra);
    let [on_demand, spot] = &forecast.points[..] else { panic!("{}", forecast.points.len()) };
    assert!(spot.time_to_train_min > on_demand.time_to_train_min);
    assert!(spot.cost_usd.unwrap() < 0.4 * on_demand.cost_usd.unwrap());
    let said: Vec<&str> = forecast
        .inputs
        .iter()
        .filter(|input| input.variant.as_deref() == Some("spot") && input.what == "failures")
        .map(|input| input.value.as_str())
        .collect();
    assert_eq!(said, ["a node every 20 h on average, at any time; restarts take 300 s"]);
}

#[test]
fn what_power_is_assumed_is_said() {
    let said = |extra: &str| {
        let inputs = run(extra).inputs;
        inputs.into_iter().find(|input| input.what == "power of an accelerator").unwrap()
    };
    let datasheet = said("[cost]\n");
    assert_eq!(
        datasheet.value,
        "437.5 W all the time, an upper bound: cost.idle_power is not given"
    );
    assert!(
        datasheet.from.starts_with("NVIDIA DGX-1V (8 x V100 SXM2 16GB) at most"),
        "{}",
        datasheet.from
    );
    let given = said(&format!("{COST}idle_power = \"100 W\"\n"));
    assert_eq!(
        (given.value.as_str(), given.from.as_str()),
        ("500 W computing, 100 W otherwise", "scenario")
    );
}

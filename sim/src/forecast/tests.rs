//! Forecasts as a whole: what must add up, what must grow, what must not depend on threads.

use proptest::prelude::*;

use super::*;
use crate::compute::MemoryNeed;
use crate::scenario::Overrides;

fn run(text: &str, engine: Engine) -> Forecast {
    let scenario = Scenario::from_toml(text, Overrides::default()).unwrap();
    forecast(&scenario, engine, || {}).unwrap()
}

fn scenario(extra: &str) -> String {
    format!(
        r#"
name = "test"
[cluster]
node = "dgx-1-v100"
[training]
model = "resnet50"
per_accelerator_batch = 64
precision = "fp16-mixed"
[compute]
anchor = "1200 images/s at 128"
[simulation]
steps = 4
{extra}
"#
    )
}

#[test]
fn one_accelerator_runs_at_its_anchor() {
    let text = scenario("[sweep]\naccelerators = [1]\nper_accelerator_batch = [128]");
    let forecast = run(&text, Engine::Arrays);
    let point = &forecast.points[0];
    assert!((point.images_per_s / 1200.0 - 1.0).abs() < 1e-9, "{}", point.images_per_s);
    assert!((point.scaling_efficiency - 1.0).abs() < 1e-9);
    assert_eq!(point.network_busy_percent, Some(0.0));
    assert!(forecast.warnings.is_empty(), "{:?}", forecast.warnings);
}

#[test]
fn both_engines_give_the_same_forecast() {
    let text = scenario(
        "[jitter]\nvariation = \"5 %\"\n[input]\ndecode = \"300 images/s\"\n\
         [sweep]\naccelerators = [1, 4, 16]\nalgorithm = [\"ring\", \"hierarchical\"]",
    );
    let arrays = run(&text, Engine::Arrays);
    let events = run(&text, Engine::Events);
    assert_eq!(arrays.points, events.points);
}

#[test]
fn time_to_train_by_hand() {
    // No jitter, no communication: 1.28 images take 1/1200 s each.
    let text = scenario("[sweep]\naccelerators = [1]\nper_accelerator_batch = [128]")
        .replace("precision", "epochs = 2\nimages = 120000\nprecision");
    let minutes = run(&text, Engine::Arrays).points[0].time_to_train_min.unwrap();
    assert!((minutes - 2.0 * 100.0 / 60.0).abs() < 1e-6, "{minutes}");
    let text =
        text.replace("precision", "evaluate_every_epochs = 1\nevaluation_images = 1280\nprecision");
    let with = run(&text, Engine::Arrays).points[0].time_to_train_min.unwrap();
    // Two evaluations of ten batches, forward only: between a quarter and a half of a step each.
    let evaluation_s = (with - minutes) * 60.0 / 2.0;
    let batch_s = 128.0 / 1200.0;
    assert!(evaluation_s > 0.25 * 10.0 * batch_s && evaluation_s < 0.5 * 10.0 * batch_s);
}

#[test]
fn slow_workers_are_the_limit_and_said_to_be() {
    // 20 workers of 100 images/s feed 8 accelerators that could take 1,000 images/s each.
    let text = scenario(
        "[input]\ndecode = \"100 images/s\"\nworkers_per_node = 20\n[sweep]\naccelerators = [8]",
    );
    let point = &run(&text, Engine::Arrays).points[0];
    assert!((point.images_per_s / 2000.0 - 1.0).abs() < 0.01, "{}", point.images_per_s);
    assert!((point.scaling_efficiency - point.accelerator_busy_percent / 100.0).abs() < 1e-9);
    assert!(point.input_cpu_busy_percent.unwrap() > 99.0);
    assert!(point.accelerator_busy_percent < 30.0);
    assert!(point.input_wait_ms > 0.7 * point.step_ms);
}

#[test]
fn costs_follow_from_time() {
    let text =
        scenario("[cost]\nprice = \"3 USD/h\"\npower = \"500 W\"\n[sweep]\naccelerators = [8]")
            .replace("precision", "epochs = 90\nprecision");
    let point = &run(&text, Engine::Arrays).points[0];
    let hours = point.time_to_train_min.unwrap() / 60.0;
    assert!((point.cost_usd.unwrap() - 8.0 * 3.0 * hours).abs() < 1e-9);
    assert!((point.energy_kwh.unwrap() - 8.0 * 0.5 * hours).abs() < 1e-9);
}

#[test]
fn published_points_are_compared_or_said_to_fit_nothing() {
    let text = scenario(
        "[sweep]\naccelerators = [8]\n\
         [[published]]\naccelerators = 8\nimages_per_s = \"4000 images/s\"\nsource = \"a\"\n\
         [[published]]\naccelerators = 9\nimages_per_s = \"4000 images/s\"\nsource = \"b\"",
    );
    let forecast = run(&text, Engine::Arrays);
    let error = forecast.published[0].error_percent.unwrap();
    let rate = forecast.points[0].images_per_s;
    assert!((error - 100.0 * (rate / 4000.0 - 1.0)).abs() < 1e-9);
    assert_eq!(forecast.published[1].predicted, None);
    let codes: Vec<WarningCode> = forecast.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, [WarningCode::ExtrapolatedBatch, WarningCode::PublishedUnmatched]);
}

/// What common frameworks take, 16 GiB hold up to 368 images; more than 418 are refused.
#[test]
fn batches_that_may_not_fit_are_said_to() {
    let warned = |batch: u64| {
        let text = scenario("[sweep]\naccelerators = [8, 16]")
            .replace("per_accelerator_batch = 64", &format!("per_accelerator_batch = {batch}"));
        let warnings = run(&text, Engine::Arrays).warnings;
        let mut found = warnings.into_iter().filter(|one| one.code == WarningCode::MayNotFit);
        let first = found.next().map(|warning| warning.message);
        assert_eq!(found.next(), None);
        first
    };
    assert_eq!(warned(64), None);
    assert_eq!(
        warned(400).as_deref(),
        Some(
            "400 images take 17.3 GiB in common frameworks, more than the 16 GiB of an accelerator, \
             into which 368 go: see whether they fit before relying on this"
        )
    );
}

/// The scenarios that are shipped are of runs that took place, or ask for less.
#[test]
fn every_shipped_scenario_fits() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
            for case in &scenario.cases {
                let need = MemoryNeed::usual(&case.model, case.precision, case.optimizer);
                let needed = need.at(case.per_accelerator_batch);
                assert!(needed <= case.accelerator_memory, "{}: {needed}", path.display());
            }
            cases += scenario.cases.len();
        }
    }
    assert!(cases > 50, "{cases}");
}

#[test]
fn a_forecast_survives_json() {
    let text = scenario("[jitter]\nvariation = \"3 %\"\n[sweep]\naccelerators = [8, 32]");
    let forecast = run(&text, Engine::Arrays);
    let json = serde_json::to_string(&forecast).unwrap();
    assert_eq!(serde_json::from_str::<Forecast>(&json).unwrap(), forecast);
}

#[test]
fn threads_do_not_change_a_byte() {
    let text = scenario("[jitter]\nvariation = \"3 %\"\n[sweep]\naccelerators = [1, 2, 8, 16, 64]");
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_string(&run(&text, Engine::Arrays)).unwrap())
    };
    assert_eq!(on(1), on(2));
    assert_eq!(on(1), on(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn more_accelerators_give_more_images_at_no_more_efficiency(
        nodes in 1_u32..8, algorithm in prop::sample::select(vec!["ring", "hierarchical"]),
    ) {
        let few = 8 * nodes;
        let text = scenario(&format!(
            "[allreduce]\nalgorithm = \"{algorithm}\"\n[sweep]\naccelerators = [{few}, {}]", 2 * few
        ));
        let points = run(&text, Engine::Arrays).points;
        prop_assert!(points[1].images_per_s > points[0].images_per_s);
        prop_assert!(points[1].scaling_efficiency <= points[0].scaling_efficiency + 1e-12);
        prop_assert!(points[0].scaling_efficiency <= 1.0 + 1e-12);
    }

    #[test]
    fn a_slow_rank_slows_everyone(factor in 1.05_f64..3.0) {
        let text = |slow: &str| scenario(&format!("{slow}[sweep]\naccelerators = [8]"));
        let base = run(&text(""), Engine::Arrays).points.remove(0);
        let slow = format!("[jitter]\nslow_ranks = [{{ rank = 3, factor = \"{factor:.3} x\" }}]\n");
        let slowed = run(&text(&slow), Engine::Arrays).points.remove(0);
        prop_assert!(slowed.straggler_wait_ms > base.straggler_wait_ms);
        let ratio = slowed.step_ms / base.step_ms;
        prop_assert!(ratio > 1.0 && ratio <= factor + 0.001);
    }
}

//! What commands write: figures, traces, schema; complete files or none.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use foretrain_trainer::config::Config;
use serde_json::Value;

const TINY: &str = "tests/commands/tiny.toml";

fn foretrain(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foretrain")).args(arguments).output().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let output = foretrain(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The files of a folder that end in `.toml`, of which there are at least so many.
fn files(folder: &str, count_min: usize) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= count_min);
    paths
}

fn scenarios() -> Vec<PathBuf> {
    files("scenarios", 9)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_schema_in_the_repository_is_the_one_that_is_printed() {
    let printed = good(&["schema"]);
    let kept = fs::read_to_string("scenarios/schema.json").unwrap();
    assert_eq!(kept, printed, "mend it with: cargo run -- schema > scenarios/schema.json");
    let printed = good(&["schema", "train"]);
    let kept = fs::read_to_string("scenarios/train-schema.json").unwrap();
    let command = "cargo run -- schema train > scenarios/train-schema.json";
    assert_eq!(kept, printed, "mend it with: {command}");
}

#[test]
fn every_shipped_training_configuration_is_read_and_fits_the_schema() {
    let schema: Value = serde_json::from_str(&good(&["schema", "train"])).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for path in files("scenarios/training", 2) {
        let text = fs::read_to_string(&path).unwrap();
        if let Err(error) = Config::from_toml(&text) {
            panic!("{}:{error}", path.display());
        }
        let config: Value = toml::from_str(&text).unwrap();
        let errors: Vec<String> =
            schema.iter_errors(&config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let mut wrong = config.clone();
        wrong["optimizer"]["momentm"] = 0.9.into();
        assert!(!schema.is_valid(&wrong), "{}", path.display());
    }
}

#[test]
fn every_shipped_scenario_fits_the_schema() {
    let schema: Value = serde_json::from_str(&good(&["schema"])).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for path in scenarios() {
        let scenario: Value = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<String> =
            schema.iter_errors(&scenario).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
    let wrong: Value = toml::from_str("name = \"x\"\n[clutser]\n").unwrap();
    assert!(!schema.is_valid(&wrong));
}

#[test]
fn every_shipped_scenario_is_forecast_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    for path in scenarios() {
        let figure = folder.path().join("figure.svg");
        let arguments =
            ["simulate", text(&path), "--steps", "1", "--format", "json", "--plot", text(&figure)];
        let forecast: Value = serde_json::from_str(&good(&arguments)).unwrap();
        for point in forecast["points"].as_array().unwrap() {
            let value = |key: &str| point[key].as_f64().unwrap();
            let parts = value("compute_ms")
                + value("exposed_communication_ms")
                + value("input_wait_ms")
                + value("straggler_wait_ms");
            assert!((value("step_ms") - parts).abs() < 1e-9 * parts, "{}", path.display());
            // Jitter of a single step may be lucky by a few percent, not more.
            assert!((0.01..1.05).contains(&value("scaling_efficiency")), "{}", path.display());
        }
        let svg = fs::read_to_string(&figure).unwrap();
        let name = forecast["foretrain"]["scenario"].as_str().unwrap();
        assert!(svg.contains(&format!("<title>{name}</title>")), "{}", path.display());
    }
}

#[test]
fn every_shipped_plan_fits_the_schema_and_is_found_whatever_the_threads() {
    let schema: Value = serde_json::from_str(&good(&["schema"])).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for path in files("scenarios/plans", 1) {
        let scenario: Value = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<String> =
            schema.iter_errors(&scenario).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
    let figure = folder.path().join("figure.svg");
    let small = "tests/commands/plan.toml";
    let on = |threads: &str| {
        let arguments =
            ["plan", small, "--threads", threads, "--format", "json", "--plot", text(&figure)];
        (good(&arguments), fs::read(&figure).unwrap())
    };
    let (json, svg) = on("1");
    assert_eq!((json.clone(), svg.clone()), on("2"));
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["best_point"]["cost_usd"], found["best"]["cost_usd"]);
    assert!(String::from_utf8(svg).unwrap().contains("<title>tiny plan</title>"));
    let rows = good(&["plan", small, "--format", "csv"]);
    assert!(rows.lines().nth(1).unwrap().starts_with("best,true,"), "{rows}");
}

#[test]
fn png_and_svg_are_the_same_figure_and_repeat_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let forecast = folder.path().join("forecast.json");
    fs::write(&forecast, good(&["simulate", TINY, "--format", "json"])).unwrap();
    let draw = |name: &str| {
        let figure = folder.path().join(name);
        good(&["plot", text(&forecast), text(&forecast), "-o", text(&figure)]);
        fs::read(figure).unwrap()
    };
    let png = draw("a.png");
    assert!(png.starts_with(b"\x89PNG"));
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((size(16), size(20)), (2560, 1920));
    assert_eq!(png, draw("b.png"));
    let svg = draw("a.svg");
    assert_eq!(svg, draw("b.svg"));
    assert!(String::from_utf8(svg).unwrap().contains("2 forecasts compared"));
}

#[test]
fn a_failed_command_leaves_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let figure = folder.path().join("figure.svg");
    fs::write(&figure, "old").unwrap();
    let broken = "tests/commands/broken.toml";
    assert_eq!(foretrain(&["simulate", broken, "--plot", text(&figure)]).status.code(), Some(3));
    assert_eq!(fs::read_to_string(&figure).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_trace_shows_streams_that_do_one_thing_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let steps = "2";
    good(&[
        "simulate",
        TINY,
        "--trace",
        text(&path),
        "--trace-ranks",
        "0,9",
        "--trace-steps",
        steps,
    ]);
    let trace: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(trace["otherData"]["foretrain"]["scenario"], "tiny");
    let mut streams: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        // Layers lie inside forward and backward and carry no details.
        if event["ph"] != "X" || event["args"].is_null() {
            continue;
        }
        let number = |key: &str| event[key].as_f64().unwrap();
        let stream = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        streams.entry(stream).or_default().push((number("ts"), number("ts") + number("dur")));
    }
    let expected: Vec<(u64, u64)> =
        [0, 9].into_iter().flat_map(|rank| (1..=4).map(move |tid| (rank, tid))).collect();
    assert_eq!(streams.keys().copied().collect::<Vec<_>>(), expected);
    for ((rank, tid), mut spans) in streams {
        spans.sort_by(|left, right| left.0.total_cmp(&right.0));
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0 + 1e-3, "rank {rank}, stream {tid}: {pair:?}");
        }
        if tid == 3 {
            // The compute stream has no gaps: waits are spans too.
            let busy: f64 = spans.iter().map(|(from, to)| to - from).sum();
            let whole = spans[spans.len() - 1].1;
            assert!((busy - whole).abs() < 1e-2, "rank {rank}: {busy} of {whole} us");
        }
    }
}

#[test]
fn a_recorded_trace_has_every_rank_and_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let rank = |rank| format!("tests/commands/recording.rank{rank}.jsonl");
    good(&["trace", &rank(0), &rank(1), "-o", text(&path)]);
    let trace: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut spans: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        if event["ph"] == "X" {
            let stream = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
            *spans.entry(stream).or_default() += 1;
        }
    }
    let expected: Vec<((u64, u64), u32)> = [0, 1]
        .into_iter()
        .flat_map(|rank| [(1, 1), (3, 5), (4, 3), (5, 1)].map(|(tid, count)| ((rank, tid), count)))
        .collect();
    assert_eq!(spans.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_published_all_reduce_is_predicted_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let published = "scenarios/published/allreduce.csv";
    let (svg, png) = (folder.path().join("figure.svg"), folder.path().join("figure.png"));
    let report: Value = serde_json::from_str(&good(&[
        "validate",
        published,
        "--format",
        "json",
        "--plot",
        text(&svg),
    ]))
    .unwrap();
    let lines = fs::read_to_string(published).unwrap().lines().count();
    assert_eq!(report["cases"].as_array().unwrap().len(), lines - 1);
    assert!(report["not_predicted"].as_array().unwrap().is_empty());
    for case in report["cases"].as_array().unwrap() {
        assert!(case["predicted"].as_f64().unwrap() > 0.0, "{case}");
        assert!(case["error_percent"].as_f64().unwrap().is_finite(), "{case}");
    }
    let figure = fs::read_to_string(&svg).unwrap();
    for set in ["a100-1node", "a100-2nodes", "h100-1node", "predicted: nvls simple"] {
        assert!(figure.contains(set), "{set}");
    }
    good(&["validate", published, "--plot", text(&png)]);
    assert!(fs::read(png).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(good(&["completions", shell]).contains("foretrain"), "{shell}");
    }
}

//! From measurements to a profile, a verdict and a forecast, as a user types it.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const FORETRAIN: &str = env!("CARGO_BIN_EXE_foretrain");
/// With which code each table is imported: some are refused.
const EXPECTED: [(&str, i32); 3] = [
    ("nccl-tests-made-up-2019.txt", 0),
    // Of all-gather.
    ("nccl-tests-made-up-2025.json", 3),
    // Two tables.
    ("nccl-tests-made-up-2025.txt", 3),
];
/// What `cargo run --workspace --example synthetic` prints.
const MEASUREMENTS: &str = "tests/commands/measurements.json";
/// What calibration makes of it, for the commands in `tests/commands/calibrate.md`.
const PROFILE: &str = "tests/commands/profile.json";

fn run(arguments: &[&str]) -> Output {
    Command::new(FORETRAIN).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// After a wanted change: `FORETRAIN_OVERWRITE=1 cargo test --test calibrate`.
#[test]
fn measurements_give_the_same_profile_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    let output = run(&["calibrate", "--from", MEASUREMENTS, "-o", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("Profile of a synthetic machine\n"));
    assert!(text(&output.stderr).contains("warning: "), "what is doubtful is said");
    let found = fs::read_to_string(&path).unwrap();
    run(&["calibrate", "--from", MEASUREMENTS, "-o", path.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&path).unwrap(), found, "the same bytes");
    if std::env::var_os("FORETRAIN_OVERWRITE").is_some() {
        fs::write(PROFILE, &found).unwrap();
    }
    // Logarithms of another machine may differ in the last bits.
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_alike(&json(&found), &json(&fs::read_to_string(PROFILE).unwrap()), "profile");
    // The raw measurements are beside it, unchanged, and their hash is in it.
    let raw = fs::read_to_string(folder.path().join("profile.measurements.json")).unwrap();
    assert_eq!(raw, fs::read_to_string(MEASUREMENTS).unwrap());
    assert!(found.contains(&sha256(&raw)));
}

fn assert_alike(found: &Value, expected: &Value, key: &str) {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            let scale = found.abs().max(expected.abs()).max(1e-9);
            assert!((found - expected).abs() <= 1e-6 * scale, "{key}: {found}, not {expected}");
        }
        (Value::Object(found), Value::Object(expected)) => {
            assert_eq!(found.len(), expected.len(), "{key}");
            for (name, found) in found {
                assert_alike(found, &expected[name], &format!("{key}.{name}"));
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{key}");
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_alike(found, expected, &format!("{key}[{index}]"));
            }
        }
        _ => assert_eq!(found, expected, "{key}"),
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn measurements_that_say_too_little_leave_no_profile_and_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let few = folder.path().join("few.json");
    let mut all: Value = serde_json::from_str(&fs::read_to_string(MEASUREMENTS).unwrap()).unwrap();
    all["links"][0]["sizes"].as_array_mut().unwrap().truncate(3);
    fs::write(&few, all.to_string()).unwrap();
    let path = folder.path().join("profile.json");
    fs::write(&path, "an old profile").unwrap();
    let (few, path) = (few.to_str().unwrap(), path.to_str().unwrap());
    let output = run(&["calibrate", "--from", few, "-o", path]);
    assert_eq!(output.status.code(), Some(4));
    let said = text(&output.stderr);
    assert!(said.contains("intra-node link: 3 distinct message sizes were measured"), "{said}");
    assert!(said.contains("no profile was written"), "{said}");
    assert_eq!(fs::read_to_string(path).unwrap(), "an old profile");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    // What is no measurement at all is invalid.
    let output = run(&["calibrate", "--from", "Cargo.toml", "-o", path]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("these are not raw measurements of foretrain calibrate"));
}

#[test]
fn a_scenario_rests_on_a_profile() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(PROFILE, folder.path().join("p.json")).unwrap();
    let scenario = folder.path().join("s.toml");
    let toml = "name = \"on a profile\"\nprofile = \"p.json\"\n[training]\nper_accelerator_batch = 12\n\
                [sweep]\naccelerators = [2, 4, 16]\n";
    fs::write(&scenario, toml).unwrap();
    let forecast =
        |scenario: &Path| run(&["simulate", scenario.to_str().unwrap(), "--format", "json"]);
    let output = forecast(&scenario);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hash = sha256(&fs::read_to_string(PROFILE).unwrap());
    assert_eq!(json["foretrain"]["profile_hash"], serde_json::json!(hash));
    assert_eq!(json["points"].as_array().unwrap().len(), 3);
    let rests_on = json["inputs"].to_string();
    assert!(rests_on.contains("12 layers of twelve layers measured at batch 8, 16"), "{rests_on}");
    let table = run(&["simulate", scenario.to_str().unwrap()]);
    assert!(text(&table.stdout).contains(&format!("profile {}", &hash[..12])));
    // A profile that is not there, and one that is broken, are named with the line of the scenario.
    fs::write(folder.path().join("p.json"), "{\"profile\": 1,").unwrap();
    let output = forecast(&scenario);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("s.toml:2:11: `profile`: ") && said.contains("cut short"), "{said}");
}

#[test]
fn tables_of_nccl_tests_become_profiles_that_reproduce_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nccl.json");
    let data = "calibrate/tests/data";
    let mut codes = Vec::new();
    let is_table =
        |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("nccl-tests");
    let files = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|path| is_table(path)) {
        let (file, profile) = (file.to_str().unwrap(), path.to_str().unwrap());
        let output = run(&["import", "nccl-tests", file, "-o", profile]);
        println!("{file} {:?} {}", output.status.code(), text(&output.stderr));
        codes.push((file.rsplit_once('/').unwrap().1.to_owned(), output.status.code()));
        if output.status.code() == Some(0) {
            let verdict = run(&["verify", profile, "--threshold", "20 %"]);
            assert_eq!(verdict.status.code(), Some(0), "{file}: {}", text(&verdict.stdout));
        } else {
            assert!(text(&output.stderr).contains(file));
        }
    }
    codes.sort();
    assert_eq!(codes, EXPECTED.map(|(file, code)| (file.to_owned(), Some(code))));
}

/// The traces are real, of ResNet-50 on two ranks; what was measured and what the simulator says of it
/// are 2 % apart.
#[test]
fn traces_of_pytorch_become_a_profile_that_reproduces_their_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kineto.json");
    let profile = path.to_str().unwrap();
    let trace = |rank: u32| format!("calibrate/tests/data/kineto/resnet50-rank{rank}.json.gz");
    let (first, second) = (trace(0), trace(1));
    let output = run(&["import", "kineto", &first, &second, "-o", profile]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("ResNet-50 v1.5") && said.contains("25557032 parameters"), "{said}");
    let verdict = run(&["verify", profile, "--format", "json", "--threshold", "20 %"]);
    assert_eq!(verdict.status.code(), Some(0), "{}", text(&verdict.stderr));
    let verdict: Value = serde_json::from_slice(&verdict.stdout).unwrap();
    let errors = verdict["errors"].as_array().unwrap();
    let steps = errors.iter().find(|errors| errors["kind"] == "step").unwrap();
    assert!(steps["mean_abs_error_percent"].as_f64().unwrap() < 5.0, "{steps}");
    // And it can be carried to more ranks.
    let scenario = folder.path().join("s.toml");
    let toml = "name = \"traced\"\nprofile = \"kineto.json\"\n[training]\nmodel = \"resnet50\"\n\
                per_accelerator_batch = 4\n[cluster]\naccelerators_per_node = 16\n\
                [sweep]\naccelerators = [1, 2, 16]\n";
    fs::write(&scenario, toml).unwrap();
    let output = run(&["simulate", scenario.to_str().unwrap()]);
    // The trace is of smaller images than the network that the scenario names.
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    fs::write(&scenario, toml.replace("model = \"resnet50\"\n", "")).unwrap();
    let output = run(&["simulate", scenario.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// What was measured on hosts that are network namespaces (docs/results/closed-loop): profiles of two
/// hosts predict four and eight.
#[test]
fn the_closed_loop_is_as_close_as_it_was() {
    for rate in ["25Mbits", "50Mbits"] {
        let file = |hosts: &str| format!("docs/results/closed-loop/{rate}{hosts}.json");
        let (two, four, eight) = (file(""), file("-4"), file("-8"));
        let limits = ["--threshold", "5 %", "--worst", "10 %", "--format", "json"];
        let output =
            run(&[&["verify", &two, "--against", &four, &eight][..], &limits[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{rate}: {}", text(&output.stderr));
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verdict["points"].as_array().unwrap().len(), 36);
    }
}

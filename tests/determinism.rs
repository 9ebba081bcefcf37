//! Same inputs, seed and version give the same bytes, whatever the threads and the build.
//!
//! `FORETRAIN_SEEDS` sets how many seeds are run (3 by default) and `FORETRAIN_THREADS` on how many
//! threads (1 and 2 by default, which must agree); `FORETRAIN_OTHER_BUILD` names the program of another
//! build, which must print the same bytes with every seed, on one thread.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use foretrain_sim::forecast::{Engine, Forecast, forecast};
use foretrain_sim::network::NetworkModel as _;
use foretrain_sim::scenario::{Overrides, Scenario};
use sha2::{Digest, Sha256};

/// Flows go through the event engine, a hundred times slower: so many fewer seeds of them are run.
const SEEDS_OF_OTHERS_A_SEED_OF_FLOWS: u64 = 100;

fn paths() -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir("scenarios").unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

fn scenario(text: &str, seed: u64) -> Scenario {
    Scenario::from_toml(text, Overrides { seed: Some(seed), steps: Some(1) }).unwrap()
}

/// Another build at work on the forecast of `path` with `seed`.
fn start(program: &str, path: &Path, seed: u64) -> Child {
    Command::new(program)
        .args(["simulate", "--format", "json", "--steps", "1", "--threads", "1", "--seed"])
        .arg(seed.to_string())
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// That it prints what this build says.
fn check_same(other_build: Child, expected: &Forecast, what: &str) {
    let printed = String::from_utf8(other_build.wait_with_output().unwrap().stdout).unwrap();
    let expected = serde_json::to_string_pretty(expected).unwrap() + "\n";
    let differs = printed.lines().zip(expected.lines()).find(|(other, own)| other != own);
    assert!(printed == expected, "{what}: {differs:?}");
}

/// One digest of the JSON of every shipped scenario with every seed, run on so many threads.
fn digest(seeds: u64, threads: usize, other_build: Option<&str>) -> String {
    let paths = paths();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut hash = Sha256::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let is_flowing = scenario(&text, 1).cases.iter().any(|case| case.network.flows().is_some());
        let fewer = if is_flowing { SEEDS_OF_OTHERS_A_SEED_OF_FLOWS } else { 1 };
        for seed in 1..=seeds.div_ceil(fewer) {
            let scenario = scenario(&text, seed);
            let other = other_build.map(|program| start(program, &path, seed));
            let forecast = pool.install(|| forecast(&scenario, Engine::Folded, || {})).unwrap();
            hash.update(serde_json::to_vec(&forecast).unwrap());
            if let Some(other) = other {
                check_same(other, &forecast, &format!("{} with seed {seed}", path.display()));
            }
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_same_bytes_on_one_thread_and_on_two() {
    let seeds = env::var("FORETRAIN_SEEDS").map_or(3, |seeds| seeds.parse().unwrap());
    let threads = env::var("FORETRAIN_THREADS").unwrap_or_else(|_| "1,2".to_owned());
    let other_build = env::var("FORETRAIN_OTHER_BUILD").ok();
    let digests: Vec<String> = threads
        .split(',')
        .map(|threads| digest(seeds, threads.parse().unwrap(), other_build.as_deref()))
        .collect();
    assert!(digests.iter().all(|other| *other == digests[0]), "{digests:?}");
}

#[test]
fn another_seed_gives_other_bytes() {
    assert_ne!(digest(1, 1, None), digest(2, 1, None));
}

#[test]
fn folding_changes_nothing() {
    for path in paths() {
        let text = fs::read_to_string(&path).unwrap();
        let run = |engine| forecast(&scenario(&text, 1), engine, || {}).unwrap();
        let (folded, arrays) = (run(Engine::Folded), run(Engine::Arrays));
        assert_eq!(folded.points, arrays.points, "{}", path.display());
    }
}

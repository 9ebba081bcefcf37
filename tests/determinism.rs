//! Same inputs, seed and version give the same bytes, whatever the threads and the build.
//!
//! `FORETRAIN_SEEDS` sets how many seeds are run (3 by default) and `FORETRAIN_THREADS` on how many
//! threads (1 and 2 by default, which must agree); `FORETRAIN_DIGEST` names a file for the digest of
//! everything, so that builds can be compared.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::env;
use std::fs;

use foretrain_sim::forecast::{Engine, forecast};
use foretrain_sim::scenario::{Overrides, Scenario};
use sha2::{Digest, Sha256};

/// One digest of the JSON of every shipped scenario with every seed, run on so many threads.
fn digest(seeds: u64, threads: usize) -> String {
    let mut paths: Vec<_> =
        fs::read_dir("scenarios").unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut hash = Sha256::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for seed in 1..=seeds {
            let overrides = Overrides { seed: Some(seed), steps: Some(1) };
            let scenario = Scenario::from_toml(&text, overrides).unwrap();
            let forecast = pool.install(|| forecast(&scenario, Engine::Arrays, || {})).unwrap();
            hash.update(serde_json::to_vec(&forecast).unwrap());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_same_bytes_on_one_thread_and_on_two() {
    let seeds = env::var("FORETRAIN_SEEDS").map_or(3, |seeds| seeds.parse().unwrap());
    let threads = env::var("FORETRAIN_THREADS").unwrap_or_else(|_| "1,2".to_owned());
    let digests: Vec<String> =
        threads.split(',').map(|threads| digest(seeds, threads.parse().unwrap())).collect();
    assert!(digests.iter().all(|other| *other == digests[0]), "{digests:?}");
    if let Ok(path) = env::var("FORETRAIN_DIGEST") {
        fs::write(path, &digests[0]).unwrap();
    }
}

#[test]
fn another_seed_gives_other_bytes() {
    assert_ne!(digest(1, 1), digest(2, 1));
}

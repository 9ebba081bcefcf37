//! The search for a plan: the shipped space of over 100,000 candidates.
//!
//! `cargo bench -p foretrain-sim --bench search`

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use divan::Bencher;
use divan::counter::ItemsCount;
use foretrain_sim::scenario::{Overrides, Scenario};
use foretrain_sim::search::plan;

const SPACE: &str = include_str!("../../scenarios/plans/p40-or-a100.toml");
const SMALL: &str = include_str!("../../tests/commands/plan.toml");

fn main() {
    divan::main();
}

fn search(bencher: Bencher<'_, '_>, text: &str, threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let space = || Scenario::space(text, Overrides::default(), &|_| Err(String::new())).unwrap();
    let found = || pool.install(|| plan(&space(), |_| {}).unwrap());
    let candidates = found().effort.candidates;
    bencher.counter(ItemsCount::new(candidates)).bench_local(found);
}

/// 121,380 candidates of three kinds of machines, reading the scenario included.
#[divan::bench(args = [1, 2], sample_count = 3, ignore = cfg!(debug_assertions))]
fn many_p40s_or_a_few_a100s(bencher: Bencher<'_, '_>, threads: usize) {
    search(bencher, SPACE, threads);
}

/// A few hundred candidates.
#[divan::bench(sample_count = 10)]
fn a_small_space(bencher: Bencher<'_, '_>) {
    search(bencher, SMALL, 1);
}

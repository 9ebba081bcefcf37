//! Recursive halving and doubling for any number of ranks (Thakur, Rabenseifner, Gropp,
//! "Optimization of collective communication operations in MPICH", IJHPCA 19(1), 2005): partners at
//! halving distances exchange halving parts of the data (reduce-scatter), then the same in reverse
//! (all-gather).
//!
//! With 2^k the largest power of two in n, the first n − 2^k even ranks first hand their data to
//! their odd neighbours and take the result back at the end. For n = 2^k on a uniform network
//! without contention: 2k·α + 2(1 − 1/n)·S/B; otherwise 2(k+1)·α + 2(1 − 1/2^k)·S/B + 2S/B.

use super::schedule::{Fold, Pattern, Phase, Schedule, Teams};
use crate::units::Bytes;

/// The all-reduce of `bytes` over `ranks`.
pub(super) fn all_reduce(ranks: u32, bytes: Bytes) -> Schedule {
    let power = ranks.ilog2();
    let fold = Fold { extra: ranks - (1 << power) };
    let teams = Teams::blocks(ranks);
    let exchange = |name, level: u32| Phase {
        name,
        teams,
        pattern: Pattern::Exchange { fold, distance: 1 << (power - 1 - level) },
        message_bytes: bytes.div_ceil(2 << level),
    };
    let halving = (0..power).map(|level| exchange("halving", level));
    let doubling = (0..power).rev().map(|level| exchange("doubling", level));
    let hand = |name, pattern| Phase { name, teams, pattern, message_bytes: bytes };
    let handing = (fold.extra > 0).then(|| hand("hand over", Pattern::HandOver(fold)));
    let returning = (fold.extra > 0).then(|| hand("hand back", Pattern::HandBack(fold)));
    Schedule::new(ranks, handing.into_iter().chain(halving).chain(doubling).chain(returning))
}

//! The flat ring: reduce-scatter, then all-gather, each n − 1 rounds of S/n bytes.
//!
//! On a uniform network without contention it takes 2(n−1)(α + S/(nB)) (Patarasuk and Yuan, "Bandwidth
//! optimal all-reduce algorithms for clusters of workstations", JPDC 69(2), 2009).

use super::schedule::{Pattern, Phase, Schedule, Teams};
use crate::units::Bytes;

/// One pass around rings of `teams`, each member passing on ceil(`bytes` / members).
pub(super) fn pass(name: &'static str, teams: Teams, bytes: Bytes) -> Phase {
    let message_bytes = bytes.div_ceil(u64::from(teams.size()));
    Phase { name, teams, pattern: Pattern::Ring, message_bytes }
}

/// The all-reduce of `bytes` over `ranks`.
pub(super) fn all_reduce(ranks: u32, bytes: Bytes) -> Schedule {
    let teams = Teams::blocks(ranks);
    Schedule::new(ranks, [pass("reduce-scatter", teams, bytes), pass("all-gather", teams, bytes)])
}

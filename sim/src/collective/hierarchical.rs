//! The hierarchical all-reduce of Jia et al. 2018 (arXiv 1807.11205): reduce inside groups, all-reduce
//! between the groups' masters, broadcast inside groups.
//!
//! Inside a group of g, reduce is a ring reduce-scatter and a gather to the master, broadcast a
//! scatter from the master and a ring all-gather, each g − 1 rounds of S/g bytes; between m masters
//! it is a ring. On links (αi, Bi) inside and (αe, Be) between groups without contention:
//! 4(g−1)(αi + S/(g·Bi)) + 2(m−1)(αe + S/(m·Be)).

use super::ring::pass;
use super::schedule::{Pattern, Phase, Schedule, Teams};
use super::{CollectiveError, check_group};
use crate::units::Bytes;

pub(super) fn all_reduce(
    ranks: u32,
    group: u32,
    bytes: Bytes,
) -> Result<Schedule, CollectiveError> {
    check_group(ranks, group)?;
    let groups = Teams::blocks(group);
    let masters = Teams::leaders(ranks / group, group);
    let message_bytes = bytes.div_ceil(u64::from(group));
    let phases = [
        pass("reduce-scatter in groups", groups, bytes),
        Phase { name: "gather to masters", teams: groups, pattern: Pattern::Gather, message_bytes },
        pass("reduce-scatter between masters", masters, bytes),
        pass("all-gather between masters", masters, bytes),
        Phase {
            name: "scatter from masters",
            teams: groups,
            pattern: Pattern::Scatter,
            message_bytes,
        },
        pass("all-gather in groups", groups, bytes),
    ];
    Ok(Schedule::new(ranks, phases))
}

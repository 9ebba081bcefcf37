//! The 2-D torus all-reduce of Mikami et al. 2018 (arXiv 1811.05233): ranks lie in rows of g; a
//! reduce-scatter along the rows, an all-reduce of each part down the columns, an all-gather along
//! the rows, all by rings.
//!
//! With rows that are groups of g ranks and m rows, on links (αi, Bi) along and (αe, Be) across
//! rows without contention: 2(g−1)(αi + S/(g·Bi)) + 2(m−1)(αe + S/(g·m·Be)). All columns work at the
//! same time, so a node that is a row sends g messages at once.

use super::ring::pass;
use super::schedule::{Schedule, Teams};
use super::{CollectiveError, check_group};
use crate::units::Bytes;

/// The all-reduce of `bytes` over `ranks` in rows of `group`.
pub(super) fn all_reduce(
    ranks: u32,
    group: u32,
    bytes: Bytes,
) -> Result<Schedule, CollectiveError> {
    check_group(ranks, group)?;
    let rows = Teams::blocks(group);
    let columns = Teams::columns(ranks / group, group);
    let part = bytes.div_ceil(u64::from(group));
    let phases = [
        pass("reduce-scatter along rows", rows, bytes),
        pass("reduce-scatter down columns", columns, part),
        pass("all-gather down columns", columns, part),
        pass("all-gather along rows", rows, bytes),
    ];
    Ok(Schedule::new(ranks, phases))
}

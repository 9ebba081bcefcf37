//! The traces of one run, held against each other.
//!
//! A transfer ends on all ranks when its data has come, but begins on each when this one is ready: what
//! it takes without waiting is what it takes from the moment when the last rank began. On one machine
//! clocks agree, so that this is the end less the latest beginning. On several they do not; there the
//! rank that came last waited for nobody, and took the least.

use std::collections::BTreeSet;

use super::spans::between;
use super::{ImportError, Step, Trace, alike};
use crate::measurements::Scope;

/// Messages of at most so many bytes take what a message of nothing takes: at the 1 GB/s of a slow
/// network they add 16 us to its 20 us or more.
const SMALL_BYTES: u64 = 16 << 10;

/// The traces of one run by rank, and the steps that all of them have.
pub(super) struct Run<'a> {
    pub(super) traces: Vec<&'a Trace>,
    /// Of each step, what each of the ranks recorded.
    pub(super) steps: Vec<Vec<&'a Step>>,
    /// Whether all ranks of the run are there.
    pub(super) whole: bool,
    /// Where ranks are, as far as the traces say.
    pub(super) scope: Scope,
}

impl<'a> Run<'a> {
    /// The run of `named` traces, in any order.
    ///
    /// # Errors
    /// There are none, two are of one rank, or they are of different runs.
    pub(super) fn new(named: &'a [(String, Trace)]) -> Result<Self, ImportError> {
        let mut by_rank: Vec<&(String, Trace)> = named.iter().collect();
        by_rank.sort_by_key(|(_, trace)| trace.rank);
        let Some((first_name, first)) = by_rank.first() else {
            return Err(ImportError::new("no trace was given, expected one for each rank"));
        };
        for pair in by_rank.windows(2) {
            if pair[0].1.rank == pair[1].1.rank {
                return Err(ImportError::new(format!(
                    "{} and {} are both of rank {}: give one trace for each rank of one run",
                    pair[0].0, pair[1].0, pair[0].1.rank
                )));
            }
        }
        let mut common: BTreeSet<&str> =
            first.steps.iter().map(|step| step.name.as_str()).collect();
        for (name, trace) in by_rank.iter().skip(1) {
            if let Some(difference) = difference(first, trace) {
                return Err(ImportError::new(format!(
                    "{name} and {first_name} are of different runs: {difference}; give the traces of one"
                )));
            }
            common.retain(|wanted| trace.steps.iter().any(|step| step.name == *wanted));
        }
        let traces: Vec<&Trace> = by_rank.iter().map(|(_, trace)| trace).collect();
        let of_name = |name: &str| -> Vec<&Step> {
            let steps = traces.iter().flat_map(|trace| &trace.steps);
            steps.filter(|step| step.name == name).collect()
        };
        let names = first.steps.iter().map(|step| step.name.as_str());
        let steps: Vec<Vec<&Step>> =
            names.filter(|name| common.contains(name)).map(of_name).collect();
        if steps.is_empty() || steps.iter().any(|ranks| ranks.len() != traces.len()) {
            let problem = "the traces have no step in common: record the same steps on all ranks";
            return Err(ImportError::new(problem));
        }
        let hosts: BTreeSet<&Option<String>> = traces.iter().map(|trace| &trace.host).collect();
        let scope = if hosts.len() > 1 { Scope::InterNode } else { Scope::IntraNode };
        let whole = traces.len() == first.ranks as usize;
        let run = Self { traces, steps, whole, scope };
        run.check_moments()?;
        Ok(run)
    }

    pub(super) fn first(&self) -> &'a Trace {
        self.traces[0]
    }

    /// By one clock, a step is at the same time everywhere.
    fn check_moments(&self) -> Result<(), ImportError> {
        if self.scope == Scope::InterNode {
            return Ok(());
        }
        for ranks in &self.steps {
            let latest = ranks.iter().map(|step| step.start_ns).max().unwrap_or(0);
            let ended =
                |step: &Step| step.start_ns.saturating_add_unsigned(step.duration_ns) <= latest;
            if ranks.iter().any(|step| ended(step)) {
                return Err(ImportError::new(format!(
                    "{} ended on one rank before it began on another: these are traces of different \
                     runs; give those of one",
                    ranks[0].name
                )));
            }
        }
        Ok(())
    }

    /// What the all-reduce of a bucket took on the slowest rank in each step, in nanoseconds; without
    /// waiting for others where all ranks are known.
    pub(super) fn all_reduce_ns(&self, bucket: usize) -> Vec<u64> {
        self.transfer_ns(&|step| step.buckets.get(bucket).map(|one| (one.start_ns, one.end_ns)))
    }

    /// How long a message between two ranks took that is so small that its bytes hardly count, in
    /// seconds, by size: broadcasts, which gloo does by a binomial tree, and anybody between two
    /// ranks by one message (`gloo/broadcast.cc`).
    pub(super) fn small_messages(&self) -> Vec<(u64, Vec<f64>)> {
        let first = self.first();
        let is_tree = first.backend.as_deref() == Some("gloo") || first.ranks == 2;
        if !self.whole || !is_tree {
            return Vec::new();
        }
        let rounds = f64::from(first.ranks.max(2).next_power_of_two().ilog2());
        let count = self.steps.iter().flatten().map(|step| step.broadcasts.len()).min();
        let mut sizes: Vec<(u64, Vec<f64>)> = Vec::new();
        for number in 0..count.unwrap_or(0) {
            let bytes = self.steps[0][0].broadcasts[number].bytes;
            let of = |step: &Step| step.broadcasts.get(number).copied();
            let same = self
                .steps
                .iter()
                .flatten()
                .all(|step| of(step).is_some_and(|broadcast| broadcast.bytes == bytes));
            if !same || bytes == 0 || bytes > SMALL_BYTES {
                continue;
            }
            let times = self.transfer_ns(&|step| of(step).map(|one| (one.start_ns, one.end_ns)));
            let times = times.into_iter().filter(|ns| *ns > 0);
            let seconds = times.map(|ns| ns as f64 / 1e9 / rounds);
            match sizes.iter_mut().find(|size| size.0 == bytes) {
                Some(size) => size.1.extend(seconds),
                None => sizes.push((bytes, seconds.collect())),
            }
        }
        sizes
    }

    /// What the slowest rank took in each step; a sender is through before its message arrives.
    fn transfer_ns(&self, of: &dyn Fn(&Step) -> Option<(i64, i64)>) -> Vec<u64> {
        let of_step = |ranks: &Vec<&Step>| -> Option<u64> {
            let moments = ranks.iter().filter_map(|step| {
                let (from, to) = of(step)?;
                Some((step.start_ns.saturating_add(from), step.start_ns.saturating_add(to)))
            });
            let moments: Vec<(i64, i64)> = moments.collect();
            let took = moments.iter().map(|(from, to)| between(*from, *to));
            if self.whole && self.scope == Scope::InterNode {
                return took.min();
            }
            if !self.whole {
                return took.max();
            }
            let last_began = moments.iter().map(|(from, _)| *from).max()?;
            moments.iter().map(|(_, to)| between(last_began, *to)).max()
        };
        self.steps.iter().filter_map(of_step).collect()
    }
}

/// What tells two traces of different runs apart.
fn difference(one: &Trace, other: &Trace) -> Option<String> {
    if one.ranks != other.ranks {
        return Some(format!("of {} ranks and of {}", other.ranks, one.ranks));
    }
    if one.backend != other.backend || one.accelerator != other.accelerator {
        return Some("they were not recorded on the same kind of machine".to_owned());
    }
    let (Some(one), Some(other)) = (one.steps.last(), other.steps.last()) else { return None };
    (!alike(one, other)).then(|| "their layers, gradients or buckets differ".to_owned())
}

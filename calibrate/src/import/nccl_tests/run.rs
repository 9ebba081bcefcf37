//! What text and JSON have in common: a table as it is written, and its checks.

use foretrain_sim::collective::Operation;

use super::printed::{Printed, check_bandwidths};
use super::{ElementType, ImportError, Options, Placement, Row, Run};

/// Ranks at most: more than any machine has, and few enough for every computation.
const RANKS_MAX: u32 = 1 << 20;

/// Where something is written.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Line(usize),
    Key(String),
}

impl Place {
    fn error(&self, key: &str, problem: impl Into<String>) -> ImportError {
        match self {
            Self::Line(line) if key.is_empty() => ImportError::at(*line, problem),
            Self::Line(line) => ImportError::at(*line, problem).with_key(key),
            Self::Key(place) if key.is_empty() => ImportError::new(problem).with_key(place),
            Self::Key(place) => ImportError::new(problem).with_key(format!("{place}, {key}")),
        }
    }
}

/// Ranks that are listed together: one, or those of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RankEntry {
    pub(super) rank: u32,
    pub(super) group: i64,
    pub(super) host: String,
    pub(super) device: String,
    /// How many ranks it stands for.
    pub(super) count: u32,
}

#[derive(Debug, Clone)]
pub(super) struct RawRow {
    pub(super) place: Place,
    pub(super) bytes: u64,
    pub(super) count: u64,
    pub(super) element_type: ElementType,
    pub(super) reduction: Option<String>,
    /// Out of place and in place.
    pub(super) sides: [Option<Side>; 2],
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Side {
    pub(super) time: Option<Printed>,
    pub(super) algorithm: Option<Printed>,
    pub(super) bus: Option<Printed>,
    pub(super) wrong: Option<u64>,
}

/// A table as it is written.
#[derive(Debug, Clone)]
pub(super) struct RawRun {
    /// Where the table begins.
    pub(super) place: Place,
    /// The name of the program, such as `all_reduce_perf`.
    pub(super) program: Option<String>,
    pub(super) tests_version: Option<String>,
    pub(super) nccl_version: Option<String>,
    pub(super) ranks: Vec<RankEntry>,
    pub(super) rows: Vec<RawRow>,
    /// What the table's last lines say, where the rows do not.
    pub(super) out_of_bounds: Option<u64>,
}

impl RawRun {
    pub(super) fn check(mut self, options: Options) -> Result<Run, ImportError> {
        // Sizes below one element for each rank are rounded down to nothing.
        self.rows.retain(|row| row.bytes > 0);
        if self.rows.is_empty() {
            let problem = "the table has no row of at least 1 byte: the run was cut short, or its \
                           sizes (-b, -e) are below one element for each rank";
            return Err(self.place.error("", problem));
        }
        let Placement { ranks, nodes } = self.placement(options)?;
        let (operation, operation_named) = match &self.program {
            Some(program) => (operation(program).map_err(|p| self.place.error("", p))?, true),
            None => (self.infer(ranks)?, false),
        };
        let rows = self.rows.iter().map(|row| row.check((operation, ranks), options));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        if let Some(wrong) = self.out_of_bounds.filter(|wrong| *wrong > 0 && !options.accept_wrong)
        {
            return Err(self.place.error("", wrong_results(wrong)));
        }
        let mut devices: Vec<String> = Vec::new();
        for entry in self.ranks {
            if !entry.device.is_empty() && !devices.contains(&entry.device) {
                devices.push(entry.device);
            }
        }
        let (tests_version, nccl_version) = (self.tests_version, self.nccl_version);
        let ranks_per_node = ranks / nodes;
        Ok(Run {
            operation,
            operation_named,
            tests_version,
            nccl_version,
            ranks,
            nodes,
            ranks_per_node,
            devices,
            rows,
        })
    }

    fn placement(&self, options: Options) -> Result<Placement, ImportError> {
        let error = |problem: String| self.place.error("", problem);
        if self.ranks.is_empty() {
            return match options.placement {
                Some(Placement { ranks, nodes })
                    if (2..=RANKS_MAX).contains(&ranks)
                        && nodes > 0
                        && ranks.is_multiple_of(nodes) =>
                {
                    Ok(Placement { ranks, nodes })
                }
                Some(Placement { ranks, nodes }) => Err(error(format!(
                    "{ranks} ranks on {nodes} nodes were given, expected 2 to {RANKS_MAX} ranks, as \
                     many on each node"
                ))),
                None => Err(error(
                    "the table has no lines `#  Rank  0 ... on <host> device ...` before it, which \
                     say which ranks it is of: keep them in the file, or give ranks and nodes"
                        .to_owned(),
                )),
            };
        }
        let first = &self.ranks[0];
        if self.ranks.iter().any(|entry| entry.group != first.group) {
            return Err(error(
                "several groups of ranks ran at a time (NCCL_TESTS_SPLIT), on links that they \
                 shared: measure one group by itself"
                    .to_owned(),
            ));
        }
        let mut expected = 0;
        let mut hosts: Vec<(&str, u32)> = Vec::new();
        for entry in &self.ranks {
            if entry.rank != expected {
                let problem = if entry.rank == 0 {
                    "rank 0 is listed twice: either each process ran by itself (build nccl-tests \
                     with MPI=1 to measure them together), or a run before was cut short (leave it \
                     out)"
                        .to_owned()
                } else {
                    format!(
                        "rank {} is listed where {expected} was expected: the list is not whole",
                        entry.rank
                    )
                };
                return Err(error(problem));
            }
            expected = expected.saturating_add(entry.count).min(RANKS_MAX + 1);
            match hosts.iter_mut().find(|(host, _)| *host == entry.host) {
                Some((_, count)) => *count = count.saturating_add(entry.count),
                None => hosts.push((&entry.host, entry.count)),
            }
        }
        if !(2..=RANKS_MAX).contains(&expected) {
            return Err(error(format!(
                "{expected} ranks: expected 2 to {RANKS_MAX}; one rank alone sends nothing"
            )));
        }
        if let Some((host, count)) = hosts.iter().find(|(_, count)| *count != hosts[0].1) {
            let (first, of_first) = hosts[0];
            return Err(error(format!(
                "{of_first} ranks on {first} and {count} on {host}: expected as many on each host"
            )));
        }
        Ok(Placement { ranks: expected, nodes: hosts.len() as u32 })
    }

    /// The operation that fits columns and counts, where no program is named.
    fn infer(&self, ranks: u32) -> Result<Operation, ImportError> {
        let fits = |factor: u64| {
            self.rows.iter().all(|row| {
                let count = row.count.checked_mul(row.element_type.bytes);
                row.reduction.is_some()
                    && count.and_then(|bytes| bytes.checked_mul(factor)) == Some(row.bytes)
            })
        };
        if fits(1) {
            return Ok(Operation::AllReduce);
        }
        if fits(u64::from(ranks)) {
            return Ok(Operation::ReduceScatter);
        }
        let problem = "nothing says of which test this table is: put a line `# Collective test \
                       starting: all_gather_perf`, or what else ran, before its header";
        Err(self.place.error("", problem))
    }
}

impl RawRow {
    fn check(&self, of: (Operation, u32), options: Options) -> Result<Row, ImportError> {
        let mut times = [None, None];
        let mut wrong = None;
        for (time_us, side) in times.iter_mut().zip(&self.sides) {
            let Some(side) = side else { continue };
            if let Some(count) = side.wrong {
                *wrong.get_or_insert(0_u64) = wrong.unwrap_or(0).saturating_add(count);
            }
            let Some(time) = side.time else { continue };
            if time.value <= 0.0 {
                return Err(self.place.error("time", "0 us, expected a time above 0"));
            }
            check_bandwidths(of, self.bytes, time, side.algorithm, side.bus)
                .map_err(|(key, problem)| self.place.error(key, problem))?;
            *time_us = Some(time.value);
        }
        if times == [None, None] {
            return Err(self.place.error("time", "expected a time, out of place or in place"));
        }
        if let Some(wrong) = wrong.filter(|wrong| *wrong > 0 && !options.accept_wrong) {
            return Err(self.place.error("#wrong", wrong_results(wrong)));
        }
        Ok(Row {
            message_bytes: self.bytes,
            element_type: self.element_type,
            reduction: self.reduction.clone(),
            out_of_place_time_us: times[0],
            in_place_time_us: times[1],
            wrong,
        })
    }
}

fn wrong_results(wrong: u64) -> String {
    format!(
        "{wrong} results were wrong, so that times may be, too: mend the machine, or accept wrong \
         results"
    )
}

/// The operation that a program measures.
fn operation(program: &str) -> Result<Operation, String> {
    match program.trim_end_matches("_mpi").trim_end_matches("_perf") {
        "all_reduce" => Ok(Operation::AllReduce),
        "reduce_scatter" => Ok(Operation::ReduceScatter),
        "all_gather" => Ok(Operation::AllGather),
        _ => Err(format!(
            "a table of `{program}`, expected one of all_reduce_perf, reduce_scatter_perf, \
             all_gather_perf: other operations are not simulated"
        )),
    }
}

//! What nccl-tests (<https://github.com/NVIDIA/nccl-tests>) print, and what they write as JSON.
//!
//! A run of `all_reduce_perf` and its sisters prints, after `#`, how it was started and which rank
//! runs on which device of which host, then a table: a row for each message size, with time,
//! algorithm and bus bandwidth out of place and in place. The columns are found by the names above
//! them, because they changed between versions: `redop` and `root` come and go with test and
//! version, and in older versions the last of each half is the largest `error` instead of the number
//! of `#wrong` values. What launchers put before a line (`0: ` of srun,
//! `[1,0]<stdout>:` of mpirun) is skipped, as are lines of other programs between rows.
//!
//! With `-J FILE` newer versions write the same as one object: `args`, `nccl_version`,
//! `config` with `nthreads`, `ngpus` and `devices`, and `results`, each with `size`, `count`, `type`,
//! `redop`, and `out_of_place` and `in_place` with `time` (us), `alg_bw`, `bus_bw` (GB/s) and
//! `nwrong`. `devices` has one entry a process, not one a rank. Other keys do not matter.
//!
//! Sources: `src/common.cu` and `src/util.cu` of nccl-tests, commit 0fdb00a (`writeDeviceReport`,
//! `writeResultHeader`, `writeBenchmarkLineBody`, JSON file version 2), and `doc/PERFORMANCE.md` for
//! bandwidths: with S bytes, time t and n ranks, algbw = S/t, and busbw = algbw · 2(n−1)/n of an
//! all-reduce, algbw · (n−1)/n of a reduce-scatter and an all-gather, where S is what all ranks have
//! together.
//!
//! Each bandwidth is computed again. If the one that was printed is another, by more than digits
//! that were not printed explain, the table is not what its header says, and is refused.

mod json;
mod measurements;
mod printed;
mod run;
mod text;

#[cfg(test)]
mod tests;

pub use foretrain_sim::collective::Operation;

use super::ImportError;

/// One table of measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What was measured.
    pub operation: Operation,
    /// Whether the file names the test; otherwise the operation follows from columns and bandwidths,
    /// which fit no other.
    pub operation_named: bool,
    /// The version of nccl-tests, such as `2.17.1`, where it is written.
    pub tests_version: Option<String>,
    /// The version of NCCL, such as `2.27.3`, where it is written.
    pub nccl_version: Option<String>,
    /// Ranks, each with a device of its own; at least 2.
    pub ranks: u32,
    /// Distinct hosts.
    pub nodes: u32,
    /// Ranks on each host, as many on all.
    pub ranks_per_node: u32,
    /// The distinct names of devices, such as `NVIDIA A100-SXM4-80GB`; none where they are not listed.
    pub devices: Vec<String>,
    /// What was measured, in the order of the file, without rows of 0 bytes; at least one.
    pub rows: Vec<Row>,
}

/// The times of one message size: means over the iterations of the test.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The column `size`: for an all-reduce what each rank has, for a reduce-scatter and an
    /// all-gather the parts of all ranks together.
    pub message_bytes: u64,
    /// The type of its elements.
    pub element_type: ElementType,
    /// The column `redop`, such as `sum`; none where nothing is reduced or it is not written.
    pub reduction: Option<String>,
    /// With different buffers to send and to receive.
    pub out_of_place_time_us: Option<f64>,
    /// With one buffer for both.
    pub in_place_time_us: Option<f64>,
    /// Wrong elements, out of place and in place together; none where they were not counted.
    pub wrong: Option<u64>,
}

/// A type of elements, by the name that nccl-tests give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    /// Such as `float`.
    pub name: &'static str,
    /// The size of an element.
    pub bytes: u64,
}

/// nccl-tests' `test_typenames`, those of NCCL 1, and rccl-tests' names of 8-bit floats.
const ELEMENT_TYPES: [(&str, u64); 16] = [
    ("int8", 1),
    ("uint8", 1),
    ("char", 1),
    ("int32", 4),
    ("uint32", 4),
    ("int", 4),
    ("int64", 8),
    ("uint64", 8),
    ("half", 2),
    ("float", 4),
    ("double", 8),
    ("bfloat16", 2),
    ("f8e4m3", 1),
    ("f8e5m2", 1),
    ("fp8_e4m3", 1),
    ("fp8_e5m2", 1),
];

impl ElementType {
    /// The type called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = ELEMENT_TYPES.into_iter().find(|(known, _)| *known == name);
        found.map(|(name, bytes)| Self { name, bytes })
    }
}

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Whether to read tables with wrong results, too.
    pub accept_wrong: bool,
    /// Where the ranks of a file ran that does not list them; bandwidths must agree.
    pub placement: Option<Placement>,
}

/// Where ranks ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Ranks in all.
    pub ranks: u32,
    /// Hosts, with as many ranks on each.
    pub nodes: u32,
}

/// Reads every table of a file, text or JSON.
///
/// # Errors
/// If there is no table or one without rows; if a line is not what its columns say; if a table is of
/// an operation other than [`Operation`]'s, of one rank, of several groups of ranks at a time, or if
/// it is unknown which ranks it is of; if hosts have different numbers of ranks; if bandwidths do not
/// follow from sizes and times; if results were wrong.
pub fn read(text: &str) -> Result<Vec<Run>, ImportError> {
    read_with(text, Options::default())
}

/// As [`read`], with options.
///
/// # Errors
/// As [`read`].
pub fn read_with(text: &str, options: Options) -> Result<Vec<Run>, ImportError> {
    let raw = if text.trim_start().starts_with('{') {
        vec![json::read(text)?]
    } else {
        text::read(text)?
    };
    raw.into_iter().map(|run| run.check(options)).collect()
}

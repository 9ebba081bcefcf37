//! A table of nccl-tests as raw measurements.
//!
//! nccl-tests times whole all-reduces, of which nobody says by which algorithm NCCL did them. They are
//! taken as if by one ring of all n ranks: 2(n−1) rounds of messages of S/n bytes, so a message takes
//! a 2(n−1)-th of the time. On one node that is the link inside it; on several, where the ring crosses
//! the network, the link between them. For the same number of ranks this reproduces the table,
//! whatever the algorithm was; for others it is the extrapolation of a ring.

use foretrain_sim::collective::{AlgorithmName, Operation};
use foretrain_sim::profile::{AllReduceEntry, MachineEntry};

use super::{Row, Run};
use crate::import::ImportError;
use crate::measurements::{CollectiveSeries, LinkSeries, Measurements, Scope, SizeSeries, VERSION};

impl Run {
    /// The table as raw measurements, of its times out of place or `in_place`.
    ///
    /// # Errors
    /// It is of another collective than all-reduce, or has no such times.
    pub fn measurements(
        &self,
        in_place: bool,
        command: &str,
        measured: &str,
        seed: u64,
    ) -> Result<Measurements, ImportError> {
        if self.operation != Operation::AllReduce {
            return Err(ImportError::new(format!(
                "this is a table of {}, expected one of all-reduce: run all_reduce_perf",
                self.operation
            )));
        }
        let place = if in_place { "in place" } else { "out of place" };
        let time_us = |row: &Row| {
            if in_place { row.in_place_time_us } else { row.out_of_place_time_us }
        };
        let mut sizes: Vec<SizeSeries> = Vec::new();
        for row in &self.rows {
            let Some(time_us) = time_us(row) else { continue };
            let bytes = row.message_bytes;
            match sizes.iter_mut().find(|size| size.message_bytes == bytes) {
                Some(size) => size.seconds.push(time_us / 1e6),
                None => {
                    sizes.push(SizeSeries { message_bytes: bytes, seconds: vec![time_us / 1e6] })
                }
            }
        }
        if sizes.is_empty() {
            return Err(ImportError::new(format!("the table has no times {place}")));
        }
        sizes.sort_by_key(|size| size.message_bytes);
        let rounds = f64::from(2 * (self.ranks - 1));
        let messages = sizes.iter().map(|size| SizeSeries {
            message_bytes: size.message_bytes.div_ceil(u64::from(self.ranks)),
            seconds: size.seconds.iter().map(|seconds| seconds / rounds).collect(),
        });
        let scope = if self.nodes > 1 { Scope::InterNode } else { Scope::IntraNode };
        let nccl = self.nccl_version.as_ref().map(|version| format!("NCCL {version}"));
        // Where the ring crosses the network, its slowest link is as if between all.
        let ranks_per_node = if self.nodes > 1 { 1 } else { self.ranks };
        Ok(Measurements {
            measurements: VERSION,
            foretrain: env!("CARGO_PKG_VERSION").to_owned(),
            procedure: "nccl-tests".to_owned(),
            command: command.to_owned(),
            measured: measured.to_owned(),
            seed,
            machine: MachineEntry {
                device: match self.devices.as_slice() {
                    [] => "not named".to_owned(),
                    some => some.join(", "),
                },
                threads: 0,
                ranks: self.ranks,
                ranks_per_node,
                transport: nccl.unwrap_or_else(|| "NCCL".to_owned()),
                driver: None,
                memory_bytes: None,
            },
            network: None,
            compute: Vec::new(),
            links: vec![LinkSeries { scope, sizes: messages.collect() }],
            collectives: vec![CollectiveSeries {
                all_reduce: AllReduceEntry::plain(AlgorithmName::Ring),
                ranks: self.ranks,
                ranks_per_node,
                sizes,
            }],
            steps: Vec::new(),
            input: None,
            norms: None,
            observations: Vec::new(),
            usd_per_accelerator_hour: None,
            watts_per_accelerator: None,
        })
    }
}

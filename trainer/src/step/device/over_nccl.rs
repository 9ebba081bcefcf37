//! Sums over ranks by NCCL, on a stream beside the one that computes.
//!
//! ```text
//! computing stream   … backward ──┬─ backward ──┬─ … ──────────────── optimizer ─ …
//!                                 ▼ event       ▼ event        event ▲
//! summing stream                  all-reduce ── all-reduce ── … ─────┘
//! ```
//!
//! All of it can be captured, so that a step with its sums is one graph.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::CudaStream;
use foretrain_sim::recording::NumberFormat;

use super::super::{CommunicationThread, StepError};
use super::Reduction;
use crate::communicator::AllReduce;
use crate::executor::cuda::device::DeviceError;
use crate::executor::cuda::driver::nccl::{self, NcclCommunicator, NcclError};
use crate::executor::cuda::driver::{Event, Gpu};
use crate::executor::cuda::memory::BucketMemory;
use crate::executor::cuda::schedule::Wire;

/// Sums by NCCL.
#[derive(Debug)]
pub struct OverNccl {
    // Goes before the stream it gives work to.
    nccl: NcclCommunicator,
    /// A bucket is complete.
    complete: Event,
    /// All sums are done.
    summed: Event,
    stream: Arc<CudaStream>,
    communication: Arc<CommunicationThread>,
    format: NumberFormat,
    buckets: Vec<BucketMemory>,
    /// What collectives are called.
    names: Vec<String>,
    step: u64,
}

impl OverNccl {
    /// Joins all ranks, each with its GPU; `timeout` is for whatever one rank waits for another.
    ///
    /// # Errors
    /// NCCL is missing or does not do the algorithm, a rank does not come, or NCCL fails.
    pub fn join(
        gpu: &Gpu,
        communication: Arc<CommunicationThread>,
        wire: &Wire,
        names: Vec<String>,
        (algorithm, timeout): (AllReduce, Duration),
    ) -> Result<Self, StepError> {
        let functions = nccl::open()?;
        let bind = gpu.binding();
        let joined = communication.ask(move |host| {
            NcclCommunicator::join(functions, host, algorithm, timeout, bind)
                .map_err(|failure| nccl::who_is_missing(host, failure))
        });
        Ok(Self {
            nccl: joined.wait()??,
            complete: gpu.event()?,
            summed: gpu.event()?,
            stream: gpu.new_stream()?,
            communication,
            format: wire.format,
            buckets: wire.buckets.clone(),
            names,
            step: 0,
        })
    }

    /// Asks the hosts who is missing, if NCCL failed.
    fn explain<T>(&self, result: Result<T, NcclError>) -> Result<T, StepError> {
        match result {
            Ok(done) => Ok(done),
            Err(failure) => {
                let asked = self.communication.ask(move |host| nccl::who_is_missing(host, failure));
                Err(asked.wait()?.into())
            }
        }
    }
}

impl Reduction<Gpu> for OverNccl {
    fn can_be_captured(&self) -> bool {
        true
    }

    fn marks_moments(&self) -> bool {
        true
    }

    fn begin_step(&mut self, step: u64, _: Instant) {
        self.step = step;
    }

    fn begin(
        &mut self,
        gpu: &mut Gpu,
        bucket: usize,
        moments: Option<&[Event; 2]>,
    ) -> Result<(), StepError> {
        self.complete.record(gpu.stream())?;
        self.complete.hold(&self.stream)?;
        if let Some([from, _]) = moments {
            from.record_in_graph(&self.stream)?;
        }
        let BucketMemory { at, elements } = self.buckets[bucket];
        let name = format!("all-reduce of {} in step {}", self.names[bucket], self.step);
        let given = self.nccl.all_reduce(&name, at, elements, self.format, &*self.stream);
        self.explain(given)?;
        if let Some([_, to]) = moments {
            to.record_in_graph(&self.stream)?;
        }
        Ok(())
    }

    fn join(&mut self, gpu: &mut Gpu) -> Result<(), StepError> {
        self.summed.record(&self.stream)?;
        Ok(self.summed.hold(gpu.stream())?)
    }

    fn wait(
        &mut self,
        has_ended: &mut dyn FnMut() -> Result<bool, DeviceError>,
    ) -> Result<(), StepError> {
        let name = format!("all-reduces of step {}", self.step);
        let waited = self.nccl.wait(&name, has_ended);
        self.explain(waited)
    }
}

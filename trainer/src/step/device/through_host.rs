//! Sums over ranks through the host's memory, by the communicator of the CPU's gradients.
//!
//! A bucket is copied to the host as soon as its last gradient is written, summed there while the
//! device goes on with backward, and copied back before the update. The device waits for each copy,
//! so this is for machines without NCCL, and for tests.

use std::sync::Arc;
use std::time::Instant;

use foretrain_sim::recording::{EventKind, NumberFormat, Span};
use half::{bf16, f16};

use super::super::timeline::nanoseconds;
use super::super::{CommunicationThread, Pending, StepError};
use super::Reduction;
use crate::communicator::CommunicatorError;
use crate::executor::GradientBuffer;
use crate::executor::cuda::device::Device;
use crate::executor::cuda::memory::BucketMemory;
use crate::executor::cuda::schedule::Wire;

/// A bucket on its way.
#[derive(Debug)]
struct Away {
    bucket: usize,
    sent_ns: u64,
    pending: Pending<Summed>,
}

/// A bucket that has been summed.
#[derive(Debug)]
struct Summed {
    values: GradientBuffer,
    result: Result<(), CommunicatorError>,
    /// When it was taken up and when it was summed.
    moments_ns: [u64; 2],
}

/// Sums through the host.
#[derive(Debug)]
pub struct ThroughHost {
    communication: Arc<CommunicationThread>,
    format: NumberFormat,
    buckets: Vec<BucketMemory>,
    /// What collectives are called.
    names: Vec<String>,
    away: Vec<Away>,
    step: u64,
    start: Instant,
    events: Vec<EventKind>,
    /// Memory of copies, to be used again.
    bytes: Vec<u8>,
}

impl ThroughHost {
    /// For buckets that travel so, with what their collectives are called.
    #[must_use]
    pub fn new(communication: Arc<CommunicationThread>, wire: &Wire, names: Vec<String>) -> Self {
        Self {
            communication,
            format: wire.format,
            buckets: wire.buckets.clone(),
            names,
            away: Vec::new(),
            step: 0,
            start: Instant::now(),
            events: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl<D: Device> Reduction<D> for ThroughHost {
    fn can_be_captured(&self) -> bool {
        false
    }

    fn marks_moments(&self) -> bool {
        false
    }

    fn begin_step(&mut self, step: u64, start: Instant) {
        (self.step, self.start) = (step, start);
        self.events.clear();
    }

    fn begin(
        &mut self,
        device: &mut D,
        bucket: usize,
        _: Option<&[D::Moment; 2]>,
    ) -> Result<(), StepError> {
        let BucketMemory { at, elements } = self.buckets[bucket];
        let began_ns = nanoseconds(self.start);
        self.bytes.resize(elements * self.format.element_bytes() as usize, 0);
        device.read(at, &mut self.bytes)?;
        let values = from_bytes(self.format, &self.bytes);
        let name = format!("all-reduce of {} in step {}", self.names[bucket], self.step);
        let start = self.start;
        let sent_ns = nanoseconds(start);
        let number = bucket as u32;
        let span = Span { start_ns: began_ns, end_ns: sent_ns };
        self.events.push(EventKind::Pack { bucket: number, span });
        let pending = self.communication.ask(move |communicator| {
            let mut values = values;
            let taken_ns = nanoseconds(start);
            let result = communicator.all_reduce(&name, values.buffer());
            Summed { values, result, moments_ns: [taken_ns, nanoseconds(start)] }
        });
        self.away.push(Away { bucket, sent_ns, pending });
        Ok(())
    }

    fn join(&mut self, device: &mut D) -> Result<(), StepError> {
        for Away { bucket, sent_ns, pending } in std::mem::take(&mut self.away) {
            let Summed { values, result, moments_ns: [taken_ns, summed_ns] } = pending.wait()?;
            result?;
            to_bytes(&values, &mut self.bytes);
            let began_ns = nanoseconds(self.start);
            device.write(self.buckets[bucket].at, &self.bytes)?;
            let ended_ns = nanoseconds(self.start);
            let number = bucket as u32;
            let span = |start_ns, end_ns| Span { start_ns, end_ns };
            self.events.extend([
                EventKind::Queue { bucket: number, span: span(sent_ns, taken_ns) },
                EventKind::AllReduce { bucket: number, span: span(taken_ns, summed_ns) },
                EventKind::Unpack { bucket: number, span: span(began_ns, ended_ns) },
            ]);
        }
        Ok(())
    }

    fn events(&mut self) -> Vec<EventKind> {
        std::mem::take(&mut self.events)
    }
}

fn from_bytes(format: NumberFormat, bytes: &[u8]) -> GradientBuffer {
    fn all<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
    }
    match format {
        NumberFormat::F16 => GradientBuffer::F16(all(bytes, f16::from_le_bytes)),
        NumberFormat::Bf16 => GradientBuffer::Bf16(all(bytes, bf16::from_le_bytes)),
        NumberFormat::F32 => GradientBuffer::F32(all(bytes, f32::from_le_bytes)),
    }
}

fn to_bytes(values: &GradientBuffer, bytes: &mut Vec<u8>) {
    fn all<const N: usize, T: Copy>(
        values: &[T],
        bytes: &mut Vec<u8>,
        number: impl Fn(T) -> [u8; N],
    ) {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| number(*value)));
    }
    match values {
        GradientBuffer::F16(values) => all(values, bytes, f16::to_le_bytes),
        GradientBuffer::Bf16(values) => all(values, bytes, bf16::to_le_bytes),
        GradientBuffer::F32(values) => all(values, bytes, f32::to_le_bytes),
        GradientBuffer::F64(values) => all(values, bytes, f64::to_le_bytes),
    }
}

//! Traces of the PyTorch profiler (Kineto) of training with DistributedDataParallel.
//!
//! `torch.profiler` with `record_shapes=True` and a schedule, whose `step()` is called after every
//! step, writes a file a rank by `export_chrome_trace`. From it [`read`] makes steps: their parts, the
//! layers with forward and backward times, gradients and buckets, all in whole nanoseconds.
//! [`measurements`] makes raw measurements of the files of one run, from which a profile is fitted.
//!
//! ```text
//! JSON ─▶ events, nested ─▶ phases ─▶ timeline ─▶ step ──▶ Trace ─┐ all ranks
//!  document     events       whose     CPU: host   parts, layers,  ├──▶ network, transfers ─▶ Measurements
//!                            is what   GPU: kernels buckets        ┘
//! ```
//!
//! On CPUs the operations of the host are the computing; on accelerators the host only says whose a
//! kernel is, by `correlation`: times are the kernels'. Layers are operations, numbered, because a
//! trace does not name modules.
//!
//! *What it rests on*: the writer, `libkineto/src/output_json.cpp` and `CuptiActivity.cpp` of
//! <https://github.com/pytorch/kineto>; that autograd numbers a node and its backward function alike
//! (`torch/csrc/autograd/profiler_kineto.cpp`), which agrees with the `fwdbwd` flows of the traces in
//! `tests/data/kineto`; and that DistributedDataParallel launches a bucket inside the hook of its last
//! gradient (Li et al., "PyTorch Distributed", VLDB 2020). Accelerators have been tested on a trace
//! that was made up.
//!
//! *What it leaves out*: FullyShardedDataParallel, compiled and captured graphs, several backward passes
//! a step, backward passes without all-reduce (`no_sync`), and everything from before PyTorch 1.12.
//! The profiler itself slows what it records, so a profile of a trace forecasts profiled runs unless
//! [`Options::unprofiled_step`] says what a step takes else.

mod assemble;
mod document;
mod events;
mod measurements;
mod network;
mod phases;
mod run;
mod spans;
mod step;
mod tensor;
mod timeline;
mod transfers;

#[cfg(test)]
mod tests;

pub use measurements::{Options, measurements};
pub use step::{Broadcast, Bucket, Gradient, Layer, Parts, Piece, Step};
pub use tensor::ElementType;

use self::document::{Distributed, Document};
use self::events::{Index, Ordered};
use self::phases::Phases;
use super::ImportError;

/// The most ranks that a trace may be of: a limit where a broken file has none.
const RANKS_MAX: u32 = 1 << 20;

/// What one rank recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Which rank; 0 if it was alone.
    pub rank: u32,
    /// All ranks of the run.
    pub ranks: u32,
    /// What carried messages, such as `gloo` or `nccl`.
    pub backend: Option<String>,
    /// The version of NCCL, if it did.
    pub nccl_version: Option<String>,
    /// The name of the machine.
    pub host: Option<String>,
    /// The accelerator's name; none on CPUs.
    pub accelerator: Option<String>,
    /// Its memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// The steps, in order, all with the same layers and buckets.
    pub steps: Vec<Step>,
    /// Steps that were left out: others, or not whole.
    pub left_out: usize,
}

/// Annotations of gloo's threads.
struct Sources {
    all_reduces: Vec<Index>,
    broadcasts: Vec<Index>,
}

/// Reads a trace, as plain JSON or packed by gzip.
///
/// Steps that have other layers, gradients or buckets than the last are left out, and so are those
/// that are not whole.
///
/// # Errors
/// It is neither JSON nor gzip, cut short, or not of the profiler; no step is marked, or none has a
/// forward pass, a backward pass and the transfers of its gradients that can be told apart.
pub fn read(bytes: &[u8]) -> Result<Trace, ImportError> {
    let text = document::unpacked(bytes)?;
    let Document { base_ns, distributed, host_name, devices, events } = document::parse(&text)?;
    if !(0..=document::MOMENT_NS_MAX).contains(&base_ns) {
        let problem = format!("{base_ns}, expected nanoseconds since 1970");
        return Err(ImportError::new(problem).with_key("baseTimeNanoseconds"));
    }
    if events.old {
        let problem = "this is of PyTorch before 1.12, whose traces name events otherwise: record with a \
                       newer version";
        return Err(ImportError::new(problem));
    }
    let events = Ordered::new(events.all);
    let (steps, left_out) = steps(&events, base_ns)?;
    let Distributed { rank, world_size, backend, nccl_version } = distributed.unwrap_or_default();
    let device = devices.into_iter().next().filter(|_| events.has_kernels);
    let (accelerator, memory_bytes) = match device {
        Some(device) => (device.name, device.memory_bytes),
        None => (events.has_kernels.then(|| "accelerator".to_owned()), None),
    };
    let ranks = world_size.unwrap_or(1);
    if rank >= ranks || ranks > RANKS_MAX {
        let problem = format!("rank {rank} of {ranks}, expected less, of at most {RANKS_MAX}");
        return Err(ImportError::new(problem).with_key("distributedInfo"));
    }
    Ok(Trace {
        rank,
        ranks,
        backend,
        nccl_version,
        host: host_name,
        accelerator,
        memory_bytes,
        steps,
        left_out,
    })
}

/// The steps that are like the last, and how many are not.
fn steps(events: &Ordered<'_>, base_ns: i64) -> Result<(Vec<Step>, usize), ImportError> {
    let marks: Vec<Index> = (0..events.all.len())
        .filter(|index| {
            events.all[*index].category == document::Category::Annotation
                && events.name(*index).starts_with("ProfilerStep#")
        })
        .collect();
    let sources = Sources {
        all_reduces: events.annotations("gloo:all_reduce"),
        broadcasts: events.annotations("gloo:broadcast"),
    };
    let read = |mark: &Index| {
        Phases::new(events, *mark)
            .and_then(|phases| assemble::step(events, &sources, &phases, base_ns))
    };
    let mut read: Vec<Result<Step, ImportError>> = marks.iter().map(read).collect();
    if events.has_kernels {
        // The host runs ahead: a step lasts until the next one's first kernel.
        for at in 1..read.len() {
            let (before, after) = read.split_at_mut(at);
            if let (Some(Ok(step)), Some(Ok(next))) = (before.last_mut(), after.first()) {
                let period = spans::between(step.start_ns, next.start_ns);
                let more = period.saturating_sub(step.duration_ns);
                step.duration_ns += more;
                step.parts.after_ns += more;
            }
        }
    }
    let mut steps = Vec::new();
    let mut problem = None;
    for step in read {
        match step {
            Ok(step) => steps.push(step),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    let Some(last) = steps.last() else {
        return Err(problem.unwrap_or_else(|| {
            ImportError::new(
                "no step is marked (`ProfilerStep#`): give torch.profiler.profile a schedule, and call \
                 its step() after every step",
            )
        }));
    };
    let last = last.clone();
    steps.retain(|step| alike(step, &last));
    let left_out = marks.len() - steps.len();
    Ok((steps, left_out))
}

/// Whether two steps are of the same graph, with the same buckets.
fn alike(one: &Step, other: &Step) -> bool {
    let same_piece = |(one, other): (&Piece, &Piece)| {
        one.bucket == other.bucket && one.gradients == other.gradients
    };
    let same_layer = |(one, other): (&Layer, &Layer)| {
        one.operation == other.operation
            && one.pieces.len() == other.pieces.len()
            && one.pieces.iter().zip(&other.pieces).all(same_piece)
    };
    let sizes = |step: &Step| step.buckets.iter().map(|bucket| bucket.bytes).collect::<Vec<_>>();
    one.layers.len() == other.layers.len()
        && one.layers.iter().zip(&other.layers).all(same_layer)
        && sizes(one) == sizes(other)
}

//! From a recording to the times of its steps.

use std::collections::BTreeMap;

use foretrain_sim::recording::{EventKind, Recording, Span};

use crate::measurements::{RecordedBucket, RecordedStep};

/// Why a recording does not say what steps took.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordedError {
    /// A step lacks something.
    #[error("step {step} has no {what}: record whole steps")]
    Missing {
        /// The step.
        step: u64,
        /// What it lacks.
        what: String,
    },
    /// There is no step.
    #[error("the recording has no steps: set `recording.steps` to some")]
    Empty,
}

/// What a step's events say, as far as they have come.
#[derive(Default)]
struct Gathered {
    step: Option<Span>,
    input_wait_ns: u64,
    optimizer: Option<Span>,
    forward: BTreeMap<u32, Span>,
    backward: BTreeMap<u32, Span>,
    buckets: BTreeMap<u32, RecordedBucket>,
}

/// The steps of a recording, in order.
///
/// Where an instruction ends and the next begins later, the time between them is no layer's: it is
/// part of what is left of the step.
///
/// # Errors
/// The recording has no steps, or a step lacks a layer.
pub fn recorded_steps(recording: &Recording) -> Result<Vec<RecordedStep>, RecordedError> {
    let mut steps: BTreeMap<u64, Gathered> = BTreeMap::new();
    for event in &recording.events {
        let step = steps.entry(event.step).or_default();
        let mut in_bucket = |bucket: u32, set: &dyn Fn(&mut RecordedBucket)| {
            set(step.buckets.entry(bucket).or_default());
        };
        match event.kind {
            EventKind::Step { span } => step.step = Some(span),
            EventKind::InputWait { span } => step.input_wait_ns += span.duration_ns(),
            EventKind::Optimizer { span } => step.optimizer = Some(span),
            EventKind::Forward { instruction, span } => {
                step.forward.insert(instruction, span);
            }
            EventKind::Backward { instruction, span } => {
                step.backward.insert(instruction, span);
            }
            EventKind::Pack { bucket, span } => {
                in_bucket(bucket, &|one| one.pack_ns = span.duration_ns());
            }
            EventKind::AllReduce { bucket, span } => {
                in_bucket(bucket, &|one| one.all_reduce_ns = span.duration_ns());
            }
            EventKind::Unpack { bucket, span } => {
                in_bucket(bucket, &|one| one.unpack_ns = span.duration_ns());
            }
            EventKind::GradientReady { .. } | EventKind::Queue { .. } | EventKind::Norms(_) => {}
        }
    }
    if steps.is_empty() {
        return Err(RecordedError::Empty);
    }
    let step = |(number, gathered)| whole(recording, number, gathered);
    steps.into_iter().map(step).collect()
}

fn whole(
    recording: &Recording,
    number: u64,
    gathered: Gathered,
) -> Result<RecordedStep, RecordedError> {
    let missing = |what: &str| RecordedError::Missing { step: number, what: what.to_owned() };
    let Gathered { step, input_wait_ns, optimizer, forward, backward, mut buckets } = gathered;
    let step = step.ok_or_else(|| missing("end"))?;
    let optimizer = optimizer.ok_or_else(|| missing("update"))?;
    let instructions = &recording.header.instructions;
    let times = |spans: &BTreeMap<u32, Span>, pass: &str| -> Result<Vec<u64>, RecordedError> {
        (0..instructions.len() as u32)
            .map(|index| {
                let name = &instructions[index as usize].name;
                let span = spans.get(&index);
                span.map(|span| span.duration_ns())
                    .ok_or_else(|| missing(&format!("{pass} of {name}")))
            })
            .collect()
    };
    let (forward_ns, backward_ns) = (times(&forward, "forward")?, times(&backward, "backward")?);
    let backward_end = backward.values().map(|span| span.end_ns).max().unwrap_or(0);
    for (bucket, entry) in (0..).zip(&recording.header.buckets) {
        if let Some(times) = buckets.get_mut(&bucket) {
            times.bytes = entry.bytes;
            times.tensors = entry.tensors.len() as u32;
        }
    }
    Ok(RecordedStep {
        step_ns: step.duration_ns(),
        input_wait_ns,
        exposed_ns: optimizer.start_ns.saturating_sub(backward_end),
        optimizer_ns: optimizer.duration_ns(),
        forward_ns,
        backward_ns,
        buckets: buckets.into_values().collect(),
    })
}

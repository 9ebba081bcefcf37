//! One line of a recording after the first: something that happened, and when.

use serde::{Deserialize, Serialize};

use super::header::Header;

/// Something that happened on a rank in a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where.
    pub rank: u32,
    /// In which step, counted from the start of training.
    pub step: u64,
    /// What.
    pub kind: EventKind,
}

/// From when to when, in nanoseconds since the start of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub start_ns: u64,
    /// When it was over; not before it began.
    pub end_ns: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// The forward pass of an instruction.
    Forward {
        /// Its place in [`Header::instructions`].
        instruction: u32,
        /// When.
        span: Span,
    },
    /// The backward pass of an instruction.
    Backward {
        /// Its place in [`Header::instructions`].
        instruction: u32,
        /// When.
        span: Span,
    },
    /// A tensor's gradient is complete on this rank: an instant.
    GradientReady {
        /// Its place in [`Header::tensors`].
        tensor: u32,
        /// When, in nanoseconds since the start of the recording.
        at_ns: u64,
    },
    /// A bucket waits: from its last gradient to the start of its packing.
    Queue {
        /// Its place in [`Header::buckets`].
        bucket: u32,
        /// When.
        span: Span,
    },
    /// A bucket's gradients are copied together and cast to the wire's format.
    Pack {
        /// Its place in [`Header::buckets`].
        bucket: u32,
        /// When.
        span: Span,
    },
    /// A bucket is summed over all ranks, waiting for the others included.
    AllReduce {
        /// Its place in [`Header::buckets`].
        bucket: u32,
        /// When.
        span: Span,
    },
    /// A bucket's sums are copied to where the optimizer reads them.
    Unpack {
        /// Its place in [`Header::buckets`].
        bucket: u32,
        /// When.
        span: Span,
    },
    /// The update of the weights.
    Optimizer {
        /// When.
        span: Span,
    },
    /// The step has no images yet.
    InputWait {
        /// When.
        span: Span,
    },
    /// The whole step, from asking for images to the end of the update.
    Step {
        /// When.
        span: Span,
    },
    /// What the step computed; not a matter of time.
    Norms(Norms),
}

/// Norms of a step's gradient, from which the gradient noise scale follows (McCandlish et al. 2018,
/// arXiv 1812.06162, appendix A.1), and the settings that it was made with.
///
/// Norms are over all parameters and of gradients of the mean loss, without loss scale and weight
/// decay. A number that is not finite is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norms {
    /// ‖g‖² of this rank's gradient, the mean over its own images.
    pub local_gradient_norm_sq: Option<f64>,
    /// ‖g‖² of the gradient averaged over all ranks.
    pub averaged_gradient_norm_sq: Option<f64>,
    /// Images behind the local gradient.
    pub per_rank_batch: u64,
    /// Images behind the averaged gradient.
    pub global_batch: u64,
    /// The mean loss of this rank's images.
    pub loss: Option<f64>,
    /// What the loss was multiplied by before backward; 1 for nothing.
    pub loss_scale: f64,
    /// The learning rate of the update.
    pub learning_rate: f64,
    /// Whether the update was skipped because a gradient overflowed.
    pub skipped: bool,
}

impl Span {
    /// Its length, in nanoseconds.
    #[must_use]
    pub const fn duration_ns(self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// The names of kinds in files, for messages.
pub(super) const KINDS: [&str; 11] = [
    "forward",
    "backward",
    "gradient_ready",
    "queue",
    "pack",
    "all_reduce",
    "unpack",
    "optimizer",
    "input_wait",
    "step",
    "norms",
];

/// A line as it is written: the keys of all kinds, each there if its kind has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct EventLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_gradient_norm_sq: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    averaged_gradient_norm_sq: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_rank_batch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    global_batch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<bool>,
}

/// A key of a line, and what is wrong with it.
pub(super) type KeyProblem = (&'static str, String);

impl EventLine {
    fn span(&self) -> Result<Span, KeyProblem> {
        let (start_ns, end_ns) = (need("start_ns", self.start_ns)?, need("end_ns", self.end_ns)?);
        if end_ns < start_ns {
            let problem = format!("{end_ns} is before `start_ns`, {start_ns}");
            return Err(("end_ns", problem));
        }
        Ok(Span { start_ns, end_ns })
    }

    /// The event, whose places must be in the tables of `header`.
    pub(super) fn into_event(self, header: &Header) -> Result<Event, KeyProblem> {
        let instruction = || place("instruction", self.instruction, header.instructions.len());
        let bucket = || place("bucket", self.bucket, header.buckets.len());
        let kind = match need("kind", self.kind.as_deref())? {
            "forward" => EventKind::Forward { instruction: instruction()?, span: self.span()? },
            "backward" => EventKind::Backward { instruction: instruction()?, span: self.span()? },
            "gradient_ready" => EventKind::GradientReady {
                tensor: place("tensor", self.tensor, header.tensors.len())?,
                at_ns: need("at_ns", self.at_ns)?,
            },
            "queue" => EventKind::Queue { bucket: bucket()?, span: self.span()? },
            "pack" => EventKind::Pack { bucket: bucket()?, span: self.span()? },
            "all_reduce" => EventKind::AllReduce { bucket: bucket()?, span: self.span()? },
            "unpack" => EventKind::Unpack { bucket: bucket()?, span: self.span()? },
            "optimizer" => EventKind::Optimizer { span: self.span()? },
            "input_wait" => EventKind::InputWait { span: self.span()? },
            "step" => EventKind::Step { span: self.span()? },
            "norms" => EventKind::Norms(Norms {
                local_gradient_norm_sq: self.local_gradient_norm_sq,
                averaged_gradient_norm_sq: self.averaged_gradient_norm_sq,
                per_rank_batch: need("per_rank_batch", self.per_rank_batch)?,
                global_batch: need("global_batch", self.global_batch)?,
                loss: self.loss,
                loss_scale: need("loss_scale", self.loss_scale)?,
                learning_rate: need("learning_rate", self.learning_rate)?,
                skipped: need("skipped", self.skipped)?,
            }),
            other => return Err(("kind", crate::located::unknown("kind", other, &KINDS))),
        };
        let rank = need("rank", self.rank)?;
        if rank != header.rank {
            let problem = format!("{rank}, but the header is of rank {}", header.rank);
            return Err(("rank", problem));
        }
        Ok(Event { rank, step: need("step", self.step)?, kind })
    }
}

fn need<T>(key: &'static str, value: Option<T>) -> Result<T, KeyProblem> {
    value.ok_or_else(|| (key, "the key is missing".to_owned()))
}

fn place(key: &'static str, value: Option<u32>, table: usize) -> Result<u32, KeyProblem> {
    let place = need(key, value)?;
    if (place as usize) < table {
        return Ok(place);
    }
    Err((key, format!("{place}, but the header lists {table}, counted from 0")))
}

impl From<&Event> for EventLine {
    fn from(event: &Event) -> Self {
        let line = |kind: &str| Self {
            kind: Some(kind.to_owned()),
            rank: Some(event.rank),
            step: Some(event.step),
            ..Self::default()
        };
        let during = |kind: &str, span: Span| Self {
            start_ns: Some(span.start_ns),
            end_ns: Some(span.end_ns),
            ..line(kind)
        };
        let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
        match event.kind {
            EventKind::Forward { instruction, span } => {
                Self { instruction: Some(instruction), ..during("forward", span) }
            }
            EventKind::Backward { instruction, span } => {
                Self { instruction: Some(instruction), ..during("backward", span) }
            }
            EventKind::GradientReady { tensor, at_ns } => {
                Self { tensor: Some(tensor), at_ns: Some(at_ns), ..line("gradient_ready") }
            }
            EventKind::Queue { bucket, span } => {
                Self { bucket: Some(bucket), ..during("queue", span) }
            }
            EventKind::Pack { bucket, span } => {
                Self { bucket: Some(bucket), ..during("pack", span) }
            }
            EventKind::AllReduce { bucket, span } => {
                Self { bucket: Some(bucket), ..during("all_reduce", span) }
            }
            EventKind::Unpack { bucket, span } => {
                Self { bucket: Some(bucket), ..during("unpack", span) }
            }
            EventKind::Optimizer { span } => during("optimizer", span),
            EventKind::InputWait { span } => during("input_wait", span),
            EventKind::Step { span } => during("step", span),
            EventKind::Norms(norms) => Self {
                local_gradient_norm_sq: finite(norms.local_gradient_norm_sq),
                averaged_gradient_norm_sq: finite(norms.averaged_gradient_norm_sq),
                per_rank_batch: Some(norms.per_rank_batch),
                global_batch: Some(norms.global_batch),
                loss: finite(norms.loss),
                loss_scale: finite(Some(norms.loss_scale)),
                learning_rate: finite(Some(norms.learning_rate)),
                skipped: Some(norms.skipped),
                ..line("norms")
            },
        }
    }
}

impl Event {
    /// The line, without its end.
    ///
    /// # Errors
    /// None that an event can cause: every field has a form in JSON.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&EventLine::from(self))
    }
}

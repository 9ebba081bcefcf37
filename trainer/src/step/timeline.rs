//! Notes what happened when, for a recording.

use std::time::Instant;

use foretrain_sim::recording::{Event, EventKind, Span};

/// Events of one rank since one moment; while it is off, nothing is kept.
#[derive(Debug, Clone)]
pub struct Timeline {
    start: Instant,
    rank: u32,
    step: u64,
    on: bool,
    norms: bool,
    events: Vec<Event>,
}

impl Timeline {
    /// A timeline that is off; times count from `start`.
    #[must_use]
    pub const fn new(start: Instant, rank: u32) -> Self {
        Self { start, rank, step: 0, on: false, norms: true, events: Vec::new() }
    }

    /// The moment from which times count.
    #[must_use]
    pub const fn start(&self) -> Instant {
        self.start
    }

    /// Whether events are kept.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// Whether norms of gradients are kept with events. Where the host computes them, they take time of
    /// the step.
    #[must_use]
    pub const fn wants_norms(&self) -> bool {
        self.on && self.norms
    }

    /// Keeps norms, or not.
    pub const fn set_norms(&mut self, norms: bool) {
        self.norms = norms;
    }

    /// What follows belongs to `step` and is kept if `on`.
    pub const fn set_step(&mut self, step: u64, on: bool) {
        self.step = step;
        self.on = on;
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        nanoseconds(self.start)
    }

    /// Keeps an event.
    pub fn note(&mut self, kind: EventKind) {
        if self.on {
            self.events.push(Event { rank: self.rank, step: self.step, kind });
        }
    }

    /// Keeps what lasted from `start_ns` until now; gives the end.
    pub fn span(&mut self, start_ns: u64, kind: impl FnOnce(Span) -> EventKind) -> u64 {
        let end_ns = self.now_ns();
        self.note(kind(Span { start_ns, end_ns }));
        end_ns
    }

    /// Takes the events kept so far.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// Nanoseconds since `start`; enough for 584 years.
pub(super) fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

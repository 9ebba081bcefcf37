//! The step through the event engine: every stream of every rank, every message. The reference.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{BucketTimes, DEVICE_BUFFERS, InputTimes, StepSetup, StepTimes};
use crate::collective::{
    Carrier, CarrierEvent, CollectiveError, EventReplay, Schedule, Sharers, Started,
};
use crate::engine::{self, EventQueue, Model, RunError, Waiting};
use crate::fusion::{Bucket, Fusion, cycle_buckets, next_tick};
use crate::jitter::JitterDraws;
use crate::network::{EdgeUse, Interconnect, NetworkModel, Rank};
use crate::random::Streams;
use crate::units::{Bytes, SimDuration};

/// At equal times everything else comes before a tick, which looks at what is ready by then.
const CLASS_ACTION: u8 = 0;
const CLASS_TICK: u8 = 1;

/// More than any simulation worth waiting for.
const EVENTS_MAX: u64 = 1 << 40;

/// Why the event-driven step could not be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepError {
    /// The all-reduce cannot be scheduled over the ranks.
    Collective(CollectiveError),
    /// The run did not end well.
    Run(RunError),
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Collective(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StepError {}

/// What happened in a run through the event engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSteps {
    /// In each step.
    pub steps: Vec<StepTimes>,
    /// What the edges carried in all, the busiest first, where messages are flows.
    pub edges: Vec<EdgeUse>,
}

/// Runs `steps` steps through the event engine and returns what happened in each.
///
/// # Errors
/// If the all-reduce cannot be scheduled over the ranks, or the run does not end well.
pub fn run_events(
    setup: &StepSetup<'_>,
    streams: &Streams,
    steps: u32,
) -> Result<EventSteps, StepError> {
    // Checks ranks and groups, after which no schedule can fail.
    (setup.plan)(Bytes::new(1)).map_err(StepError::Collective)?;
    let mut draws = JitterDraws::new(setup.jitter, setup.ranks(), streams);
    let factors: Vec<Vec<f64>> = (0..steps).map(|_| draws.draw()).collect();
    let mut model = StepModel::new(setup, factors);
    let mut queue = EventQueue::default();
    for rank in (0..setup.ranks()).map(Rank) {
        model.feed(rank, &mut queue);
        model.begin_step(rank, &mut queue);
    }
    engine::run(&mut model, &mut queue, EVENTS_MAX).map_err(StepError::Run)?;
    let edges = model.carrier.edges();
    Ok(EventSteps { steps: model.record, edges })
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Decoded(Rank),
    Copied(Rank),
    ForwardDone(Rank),
    GradientReady(Rank, usize),
    BackwardDone(Rank),
    Tick(usize),
    Packed(Rank),
    Delivered(CollectiveKey, Started),
    Carrier(CarrierEvent),
    Unpacked(Rank),
    Updated(Rank),
}

/// (step, bucket)
type CollectiveKey = (usize, usize);

/// Where a rank is; all counts are of steps or batches completed.
#[derive(Debug, Clone, Default)]
struct RankState {
    step: usize,
    running: bool,
    backward_done: bool,
    updating: bool,
    batches_decoded: usize,
    batches_copied: usize,
    batches_used: usize,
    decoding: bool,
    copying: bool,
    gradients_ready: usize,
    next_bucket: usize,
    communicating: bool,
}

struct Collective {
    replay: EventReplay<Interconnect>,
    ranks_left: u32,
}

struct StepModel<'a> {
    setup: &'a StepSetup<'a>,
    ranks: Vec<RankState>,
    plans: BTreeMap<Bytes, (Rc<Schedule>, Interconnect, Rc<Sharers>)>,
    /// All-reduces that some rank has entered and some rank has not left.
    collectives: BTreeMap<CollectiveKey, Collective>,
    /// Buckets of each step; those of a cycle appear as their tick comes.
    buckets: Vec<Vec<Bucket>>,
    /// For each step, how many ranks have each gradient.
    ranks_ready: Vec<Vec<u32>>,
    record: Vec<StepTimes>,
    carrier: Carrier<'a, (CollectiveKey, Started)>,
}

impl<'a> StepModel<'a> {
    fn new(setup: &'a StepSetup<'a>, factors: Vec<Vec<f64>>) -> Self {
        let ranks = setup.ranks() as usize;
        let zeros = || vec![0; ranks];
        let input = || InputTimes {
            decode_start: zeros(),
            decode_end: zeros(),
            copy_start: zeros(),
            copy_end: zeros(),
        };
        let steps = factors.len();
        let record = factors.into_iter().map(|factor| StepTimes {
            previous_end: zeros(),
            input: setup.input.map(|_| input()),
            factor,
            forward_start: zeros(),
            forward_end: zeros(),
            backward_end: zeros(),
            buckets: Vec::new(),
            optimizer_start: zeros(),
            end: zeros(),
        });
        let mut model = Self {
            setup,
            ranks: vec![RankState::default(); ranks],
            plans: BTreeMap::new(),
            carrier: Carrier::new(setup.network.flows()),
            collectives: BTreeMap::new(),
            buckets: vec![Vec::new(); steps],
            ranks_ready: vec![vec![0; setup.gradients.len()]; steps],
            record: record.collect(),
        };
        if setup.ranks() > 1 {
            let fixed = setup.fusion.static_buckets(setup.gradients).unwrap_or_default();
            for step in 0..steps {
                for bucket in &fixed {
                    model.add_bucket(step, bucket.clone());
                }
            }
        }
        model
    }

    fn add_bucket(&mut self, step: usize, bucket: Bucket) {
        let zeros = || vec![0; self.setup.ranks() as usize];
        self.record[step].buckets.push(BucketTimes {
            bytes: bucket.bytes,
            tensors: bucket.gradients.len(),
            ready: zeros(),
            pack_start: zeros(),
            enter: zeros(),
            finish: zeros(),
            end: zeros(),
        });
        self.buckets[step].push(bucket);
    }

    fn after(queue: &mut EventQueue<Event>, rank: Rank, duration: SimDuration, event: Event) {
        queue.schedule_after(duration, CLASS_ACTION, rank.0, event);
    }

    fn scaled(&self, rank: Rank, duration: SimDuration) -> SimDuration {
        let step = self.ranks[rank.index()].step;
        duration.scaled(self.record[step].factor[rank.index()])
    }

    /// Decodes and copies whatever has a place to go.
    fn feed(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let Some(pipeline) = self.setup.input else { return };
        let steps = self.record.len();
        let state = &mut self.ranks[rank.index()];
        let places = pipeline.prefetch_batches.max(1) as usize;
        let batch = state.batches_decoded;
        if !state.decoding && batch < steps && batch < state.batches_copied + places {
            state.decoding = true;
            if let Some(input) = &mut self.record[batch].input {
                input.decode_start[rank.index()] = queue.now().as_ps();
            }
            Self::after(queue, rank, pipeline.decode, Event::Decoded(rank));
        }
        let batch = state.batches_copied;
        if !state.copying
            && batch < state.batches_decoded
            && batch < state.batches_used + DEVICE_BUFFERS
        {
            state.copying = true;
            if let Some(input) = &mut self.record[batch].input {
                input.copy_start[rank.index()] = queue.now().as_ps();
            }
            Self::after(queue, rank, pipeline.copy, Event::Copied(rank));
        }
    }

    fn begin_step(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let state = &mut self.ranks[rank.index()];
        let has_batch = self.setup.input.is_none() || state.batches_copied > state.step;
        if state.running || !has_batch || state.step == self.record.len() {
            return;
        }
        state.running = true;
        self.record[state.step].forward_start[rank.index()] = queue.now().as_ps();
        let forward = self.scaled(rank, self.setup.compute.forward());
        Self::after(queue, rank, forward, Event::ForwardDone(rank));
    }

    fn forward_done(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let step = self.ranks[rank.index()].step;
        self.record[step].forward_end[rank.index()] = queue.now().as_ps();
        if self.setup.overlap {
            for (index, gradient) in self.setup.gradients.iter().enumerate() {
                let after = self.scaled(rank, gradient.ready_after);
                Self::after(queue, rank, after, Event::GradientReady(rank, index));
            }
        }
        let backward = self.scaled(rank, self.setup.compute.backward());
        Self::after(queue, rank, backward, Event::BackwardDone(rank));
    }

    fn backward_done(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let state = &mut self.ranks[rank.index()];
        state.backward_done = true;
        state.batches_used += 1;
        self.record[state.step].backward_end[rank.index()] = queue.now().as_ps();
        if !self.setup.overlap {
            for index in 0..self.setup.gradients.len() {
                self.gradient_ready(rank, index, queue);
            }
        }
        self.feed(rank, queue);
        self.update(rank, queue);
    }

    fn gradient_ready(&mut self, rank: Rank, index: usize, queue: &mut EventQueue<Event>) {
        let state = &mut self.ranks[rank.index()];
        let step = state.step;
        state.gradients_ready = index + 1;
        if let Fusion::Cycle { cycle, .. } = self.setup.fusion {
            self.ranks_ready[step][index] += 1;
            if self.ranks_ready[step][index] == self.setup.ranks() {
                let tick = next_tick(queue.now(), cycle);
                queue.schedule_at(tick, CLASS_TICK, 0, Event::Tick(step));
            }
            return;
        }
        for (bucket, times) in self.buckets[step].iter().zip(&mut self.record[step].buckets) {
            if bucket.gradients.end == index + 1 {
                times.ready[rank.index()] = queue.now().as_ps();
            }
        }
        self.communicate(rank, queue);
    }

    fn tick(&mut self, step: usize, queue: &mut EventQueue<Event>) {
        let Fusion::Cycle { threshold, .. } = self.setup.fusion else { return };
        if self.setup.ranks() < 2 {
            return;
        }
        let from = self.buckets[step].last().map_or(0, |bucket| bucket.gradients.end);
        let ready = self.ranks_ready[step].iter().take_while(|&&n| n == self.setup.ranks()).count();
        for bucket in cycle_buckets(self.setup.gradients, from..ready, threshold) {
            self.add_bucket(step, bucket);
            if let Some(times) = self.record[step].buckets.last_mut() {
                times.ready.fill(queue.now().as_ps());
            }
        }
        for rank in (0..self.setup.ranks()).map(Rank) {
            self.communicate(rank, queue);
        }
    }

    /// Starts the next bucket, if it is ready and the stream is free.
    fn communicate(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let state = &mut self.ranks[rank.index()];
        if state.communicating || state.step == self.record.len() {
            return;
        }
        let Some(bucket) = self.buckets[state.step].get(state.next_bucket) else { return };
        if bucket.gradients.end > state.gradients_ready {
            return;
        }
        state.communicating = true;
        let times = &mut self.record[state.step].buckets[state.next_bucket];
        times.pack_start[rank.index()] = queue.now().as_ps();
        let (pack, _) = self.setup.pack_times(bucket.bytes, bucket.gradients.len());
        Self::after(queue, rank, pack, Event::Packed(rank));
    }

    fn packed(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let state = &self.ranks[rank.index()];
        let key = (state.step, state.next_bucket);
        self.record[key.0].buckets[key.1].enter[rank.index()] = queue.now().as_ps();
        let mut started = Vec::new();
        let done = self.collective(key).replay.enter(rank, &mut started);
        self.carry(key, &started, queue);
        if done {
            self.reduced(rank, key, queue);
        }
    }

    /// The all-reduce of a bucket, begun if no rank has come yet.
    fn collective(&mut self, key: CollectiveKey) -> &mut Collective {
        let Self { setup, plans, collectives, buckets, .. } = self;
        let bytes = buckets[key.0][key.1].bytes;
        collectives.entry(key).or_insert_with(|| {
            let (schedule, network, sharers) = plans.entry(bytes).or_insert_with(|| {
                // Ranks and groups were checked before the first event.
                let (schedule, network) = match (setup.plan)(bytes) {
                    Ok(plan) => (plan.schedule, plan.network),
                    Err(_) => (Schedule::empty(setup.ranks()), setup.network.clone()),
                };
                let sharers = EventReplay::sharers(&schedule, &network);
                (Rc::new(schedule), network, sharers)
            });
            let (schedule, sharers) = (Rc::clone(schedule), Rc::clone(sharers));
            let replay = EventReplay::with_sharers(schedule, network.clone(), sharers);
            Collective { replay, ranks_left: setup.ranks() }
        })
    }

    fn delivered(&mut self, key: CollectiveKey, message: &Started, queue: &mut EventQueue<Event>) {
        let (mut started, mut done) = (Vec::new(), Vec::new());
        self.collective(key).replay.delivered(message, &mut started, &mut done);
        self.carry(key, &started, queue);
        for rank in done {
            self.reduced(rank, key, queue);
        }
    }

    fn carry(&mut self, key: CollectiveKey, started: &[Started], queue: &mut EventQueue<Event>) {
        for message in started {
            let delivered = || Event::Delivered(key, *message);
            let (key, delivered) = (((key, *message), message), (CLASS_ACTION, delivered));
            self.carrier.carry(queue, key, delivered, Event::Carrier);
        }
    }

    fn reduced(&mut self, rank: Rank, key: CollectiveKey, queue: &mut EventQueue<Event>) {
        let collective = self.collective(key);
        collective.ranks_left -= 1;
        if collective.ranks_left == 0 {
            self.collectives.remove(&key);
        }
        let times = &mut self.record[key.0].buckets[key.1];
        times.finish[rank.index()] = queue.now().as_ps();
        let (_, unpack) = self.setup.pack_times(times.bytes, times.tensors);
        Self::after(queue, rank, unpack, Event::Unpacked(rank));
    }

    fn unpacked(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let state = &mut self.ranks[rank.index()];
        self.record[state.step].buckets[state.next_bucket].end[rank.index()] = queue.now().as_ps();
        state.communicating = false;
        state.next_bucket += 1;
        self.communicate(rank, queue);
        self.update(rank, queue);
    }

    /// Starts the optimizer once backward is done and every gradient has come back.
    fn update(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let state = &self.ranks[rank.index()];
        let returned = match state.next_bucket.checked_sub(1) {
            Some(last) => self.buckets[state.step][last].gradients.end,
            None => 0,
        };
        let all = if self.setup.ranks() > 1 { self.setup.gradients.len() } else { 0 };
        if !state.backward_done || state.updating || returned < all {
            return;
        }
        self.ranks[rank.index()].updating = true;
        let step = self.ranks[rank.index()].step;
        self.record[step].optimizer_start[rank.index()] = queue.now().as_ps();
        let optimizer = self.scaled(rank, self.setup.compute.optimizer);
        Self::after(queue, rank, optimizer, Event::Updated(rank));
    }

    fn updated(&mut self, rank: Rank, queue: &mut EventQueue<Event>) {
        let now = queue.now().as_ps();
        let state = &mut self.ranks[rank.index()];
        self.record[state.step].end[rank.index()] = now;
        let RankState { step, batches_decoded, batches_copied, batches_used, .. } = *state;
        let RankState { decoding, copying, .. } = *state;
        *state = RankState {
            step: step + 1,
            batches_decoded,
            batches_copied,
            batches_used,
            decoding,
            copying,
            ..RankState::default()
        };
        if let Some(next) = self.record.get_mut(step + 1) {
            next.previous_end[rank.index()] = now;
        }
        self.begin_step(rank, queue);
    }
}

impl Model for StepModel<'_> {
    type Event = Event;

    fn handle(&mut self, event: Event, queue: &mut EventQueue<Event>) {
        let now = queue.now().as_ps();
        match event {
            Event::Decoded(rank) => {
                let state = &mut self.ranks[rank.index()];
                if let Some(input) = &mut self.record[state.batches_decoded].input {
                    input.decode_end[rank.index()] = now;
                }
                state.decoding = false;
                state.batches_decoded += 1;
                self.feed(rank, queue);
            }
            Event::Copied(rank) => {
                let state = &mut self.ranks[rank.index()];
                if let Some(input) = &mut self.record[state.batches_copied].input {
                    input.copy_end[rank.index()] = now;
                }
                state.copying = false;
                state.batches_copied += 1;
                self.feed(rank, queue);
                self.begin_step(rank, queue);
            }
            Event::ForwardDone(rank) => self.forward_done(rank, queue),
            Event::GradientReady(rank, index) => self.gradient_ready(rank, index, queue),
            Event::BackwardDone(rank) => self.backward_done(rank, queue),
            Event::Tick(step) => self.tick(step, queue),
            Event::Packed(rank) => self.packed(rank, queue),
            Event::Carrier(event) => {
                for (key, message) in self.carrier.react(event, queue, Event::Carrier) {
                    self.delivered(key, &message, queue);
                }
            }
            Event::Delivered(key, message) => self.delivered(key, &message, queue),
            Event::Unpacked(rank) => self.unpacked(rank, queue),
            Event::Updated(rank) => self.updated(rank, queue),
        }
    }

    fn waiting(&self) -> Vec<Waiting> {
        (0..)
            .map(Rank)
            .zip(&self.ranks)
            .filter(|(_, state)| state.step < self.record.len())
            .map(|(rank, state)| {
                let key = (state.step, state.next_bucket);
                let what = self
                    .collectives
                    .get(&key)
                    .and_then(|collective| collective.replay.waits_for(rank))
                    .unwrap_or_else(|| "its input".to_owned());
                let what = format!("{what} (step {}, bucket {})", key.0, key.1);
                Waiting { who: rank.to_string(), what }
            })
            .collect()
    }
}

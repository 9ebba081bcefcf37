//! A schedule run message by message through the event engine: the reference.

use std::rc::Rc;

use super::schedule::{Peers, Phase, Schedule, Sharers};
use crate::engine::{self, EventQueue, Model, RunError, Waiting};
use crate::network::{NetworkModel, Rank};
use crate::units::{SimDuration, SimTime};

/// A message that has just started, to be reported back by [`EventReplay::delivered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The sender.
    pub from: Rank,
    /// The receiver.
    pub to: Rank,
    /// The round it belongs to, counted over all phases.
    pub round: u32,
    /// How long it takes.
    pub duration: SimDuration,
}

/// The state of one collective: how far each rank has come.
///
/// It is driven from outside, so that a whole training step can run many of them on one clock:
/// [`EventReplay::enter`] when a rank starts, [`EventReplay::delivered`] when a message arrives.
#[derive(Debug)]
pub struct EventReplay<'a, N> {
    schedule: Rc<Schedule>,
    network: &'a N,
    sharers: Sharers,
    /// How many rounds there are, over all phases.
    rounds: u32,
    /// The round each rank is in; none before it has entered.
    at: Vec<Option<u32>>,
}

impl<'a, N: NetworkModel> EventReplay<'a, N> {
    /// A collective that no rank has entered yet.
    pub fn new(schedule: Rc<Schedule>, network: &'a N) -> Self {
        let rounds = schedule.phases().iter().map(Phase::rounds).sum();
        let at = vec![None; schedule.ranks() as usize];
        let sharers = schedule.sharers(network);
        Self { schedule, network, sharers, rounds, at }
    }

    /// Lets `rank` in. Returns whether it is already done; messages that can start are added to
    /// `started`.
    pub fn enter(&mut self, rank: Rank, started: &mut Vec<Started>) -> bool {
        self.advance(rank, 0, started)
    }

    /// Takes note that `message` has arrived. Appends to `done` the ranks that are through.
    pub fn delivered(
        &mut self,
        message: &Started,
        started: &mut Vec<Started>,
        done: &mut Vec<Rank>,
    ) {
        let &Started { from, to, round, .. } = message;
        if self.advance(to, round + 1, started) {
            done.push(to);
        }
        if self.peers(from, round).receives_from.is_none() && self.advance(from, round + 1, started)
        {
            done.push(from);
        }
    }

    /// What `rank` waits for, if it is not through.
    #[must_use]
    pub fn waits_for(&self, rank: Rank) -> Option<String> {
        let Some(round) = self.at[rank.index()] else {
            return Some("its start".to_owned());
        };
        if round == self.rounds {
            return None;
        }
        let (phase, round_in_phase) = self.place(round);
        let phase = &self.schedule.phases()[phase];
        let Peers { receives_from, sends_to } = phase.peers(rank, round_in_phase);
        let place = format!("in round {round_in_phase} of {}", phase.name);
        Some(match (receives_from, sends_to) {
            (Some(from), _) => format!("a message from {from} {place}"),
            (None, Some(to)) => format!("{to} to receive {place}"),
            (None, None) => place,
        })
    }

    /// The phase of a round counted over all phases, and its number in the phase.
    fn place(&self, mut round: u32) -> (usize, u32) {
        let phases = self.schedule.phases();
        let mut index = 0;
        while round >= phases[index].rounds() {
            round -= phases[index].rounds();
            index += 1;
        }
        (index, round)
    }

    fn peers(&self, rank: Rank, round: u32) -> Peers {
        let (phase, round) = self.place(round);
        self.schedule.phases()[phase].peers(rank, round)
    }

    /// Moves `rank` to `round`, past the rounds in which it has nothing to do.
    fn advance(&mut self, rank: Rank, mut round: u32, started: &mut Vec<Started>) -> bool {
        while round < self.rounds && self.peers(rank, round) == Peers::default() {
            round += 1;
        }
        self.at[rank.index()] = Some(round);
        if round == self.rounds {
            return true;
        }
        let Peers { receives_from, sends_to } = self.peers(rank, round);
        // A sender may be rounds ahead already; a receiver cannot be without this very message.
        if let Some(from) = receives_from
            && self.at[from.index()].is_some_and(|at| at >= round)
        {
            started.push(self.start(from, rank, round));
        }
        if let Some(to) = sends_to
            && self.at[to.index()] == Some(round)
        {
            started.push(self.start(rank, to, round));
        }
        false
    }

    fn start(&self, from: Rank, to: Rank, round: u32) -> Started {
        let (phase, round_in_phase) = self.place(round);
        let bytes = self.schedule.phases()[phase].message_bytes;
        let sharers = self.sharers.of(phase, round_in_phase, self.network.link(from, to));
        let duration = self.network.message_time(from, to, bytes, sharers);
        Started { from, to, round, duration }
    }
}

enum Event {
    Enter(Rank),
    Delivered(Started),
}

struct Standalone<'a, N> {
    replay: EventReplay<'a, N>,
    finished: Vec<Option<SimTime>>,
}

impl<N: NetworkModel> Model for Standalone<'_, N> {
    type Event = Event;

    fn handle(&mut self, event: Event, queue: &mut EventQueue<Event>) {
        let (mut started, mut done) = (Vec::new(), Vec::new());
        match event {
            Event::Enter(rank) => {
                if self.replay.enter(rank, &mut started) {
                    done.push(rank);
                }
            }
            Event::Delivered(message) => {
                self.replay.delivered(&message, &mut started, &mut done);
            }
        }
        for rank in done {
            self.finished[rank.index()] = Some(queue.now());
        }
        for message in started {
            queue.schedule_after(message.duration, 0, message.to.0, Event::Delivered(message));
        }
    }

    fn waiting(&self) -> Vec<Waiting> {
        (0..)
            .map(Rank)
            .zip(&self.finished)
            .filter(|(_, finished)| finished.is_none())
            .map(|(rank, _)| Waiting {
                who: rank.to_string(),
                what: self.replay.waits_for(rank).unwrap_or_else(|| "nothing".to_owned()),
            })
            .collect()
    }
}

/// When each rank is done, if rank i starts at `starts[i]`; a rank without a start never comes.
///
/// # Errors
/// If someone waits forever, which happens just when a rank never starts.
///
/// # Panics
/// If there is not one start for each rank of the schedule.
pub fn replay_events(
    schedule: &Schedule,
    network: &impl NetworkModel,
    starts: &[Option<SimTime>],
) -> Result<Vec<SimTime>, RunError> {
    assert_eq!(starts.len(), schedule.ranks() as usize, "one start for each rank");
    let mut queue = EventQueue::default();
    for (rank, start) in (0..).map(Rank).zip(starts) {
        if let Some(start) = start {
            queue.schedule_at(*start, 0, rank.0, Event::Enter(rank));
        }
    }
    let mut model = Standalone {
        replay: EventReplay::new(Rc::new(schedule.clone()), network),
        finished: vec![None; starts.len()],
    };
    let events = schedule.messages() + u64::from(schedule.ranks());
    engine::run(&mut model, &mut queue, events)?;
    Ok(model.finished.into_iter().flatten().collect())
}

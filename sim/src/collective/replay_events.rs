//! A schedule run message by message through the event engine: the reference.

use super::schedule::{Peers, Schedule};
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
    schedule: &'a Schedule,
    network: &'a N,
    /// (phase, round in it) of every round, over all phases.
    rounds: Vec<(usize, u32)>,
    /// The round each rank is in; none before it has entered.
    at: Vec<Option<u32>>,
}

impl<'a, N: NetworkModel> EventReplay<'a, N> {
    /// A collective that no rank has entered yet.
    pub fn new(schedule: &'a Schedule, network: &'a N) -> Self {
        let rounds = schedule
            .phases()
            .iter()
            .enumerate()
            .flat_map(|(index, phase)| (0..phase.rounds()).map(move |round| (index, round)))
            .collect();
        Self { schedule, network, rounds, at: vec![None; schedule.ranks() as usize] }
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

    /// Whether `rank` is through.
    #[must_use]
    pub fn is_done(&self, rank: Rank) -> bool {
        self.at[rank.index()].is_some_and(|round| round as usize == self.rounds.len())
    }

    /// What `rank` waits for, if it is not through.
    #[must_use]
    pub fn waits_for(&self, rank: Rank) -> Option<String> {
        let Some(round) = self.at[rank.index()] else {
            return Some("its start".to_owned());
        };
        let &(phase, round_in_phase) = self.rounds.get(round as usize)?;
        let Peers { receives_from, sends_to } = self.peers(rank, round);
        let name = self.schedule.phases()[phase].name;
        let place = format!("in round {round_in_phase} of {name}");
        Some(match (receives_from, sends_to) {
            (Some(from), _) => format!("a message from {from} {place}"),
            (None, Some(to)) => format!("{to} to receive {place}"),
            (None, None) => place,
        })
    }

    fn peers(&self, rank: Rank, round: u32) -> Peers {
        let (phase, round) = self.rounds[round as usize];
        self.schedule.phases()[phase].peers(rank, round)
    }

    /// Moves `rank` to `round`, past the rounds in which it has nothing to do.
    fn advance(&mut self, rank: Rank, mut round: u32, started: &mut Vec<Started>) -> bool {
        while (round as usize) < self.rounds.len() && self.peers(rank, round) == Peers::default() {
            round += 1;
        }
        self.at[rank.index()] = Some(round);
        if round as usize == self.rounds.len() {
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
        let (phase, _) = self.rounds[round as usize];
        let bytes = self.schedule.phases()[phase].message_bytes;
        Started { from, to, round, duration: self.network.message_time(from, to, bytes) }
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
        replay: EventReplay::new(schedule, network),
        finished: vec![None; starts.len()],
    };
    let events = schedule.messages() + u64::from(schedule.ranks());
    engine::run(&mut model, &mut queue, events)?;
    Ok(model.finished.into_iter().flatten().collect())
}

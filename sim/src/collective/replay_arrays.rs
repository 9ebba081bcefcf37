//! A schedule run as passes over the ranks' times.
//!
//! Where a message's duration does not depend on when it starts, a round is max-plus linear: a
//! receiver's new time is the later of its own and its sender's, plus the message's duration. So a
//! round of all ranks is one pass over an array, exactly what the event engine computes, without a
//! queue.

use super::schedule::{Fold, Pattern, Phase, Schedule, Sharers};
use crate::network::{NetworkModel, Rank};
use crate::units::SimTime;

/// A schedule made ready to be replayed many times: message durations are looked up once.
#[derive(Debug, Clone)]
pub struct ArrayReplay {
    ranks: usize,
    phases: Vec<PreparedPhase>,
    scratch: Vec<u64>,
}

#[derive(Debug, Clone)]
struct PreparedPhase {
    phase: Phase,
    first_ranks: Vec<u32>,
    /// Team after team, in picoseconds: for a ring and an exchange the duration of the message into
    /// each member, for gather and scatter of each round's message, for a fold of each pair's.
    durations: Vec<u64>,
}

impl PreparedPhase {
    fn new(
        schedule: &Schedule,
        index: usize,
        sharers: &Sharers,
        network: &impl NetworkModel,
    ) -> Self {
        let phase = schedule.phases()[index];
        let first_ranks: Vec<u32> = phase.teams.first_ranks(schedule.ranks()).collect();
        let size = phase.teams.size();
        let bytes = phase.message_bytes;
        let durations = first_ranks
            .iter()
            .flat_map(|&first| {
                let member = |position: u32| Rank(first + position * phase.teams.stride());
                let duration = move |round: u32, from: u32, to: u32| {
                    let (from, to) = (member(from), member(to));
                    let sharers = sharers.of(index, round, network.link(from, to));
                    network.message_time(from, to, bytes, sharers).as_ps()
                };
                messages(phase.pattern, size)
                    .map(move |message| match message {
                        Some((round, from, to)) => duration(round, from, to),
                        None => 0,
                    })
                    .collect::<Vec<u64>>()
            })
            .collect();
        Self { phase, first_ranks, durations }
    }

    fn run(&self, times: &mut [u64], scratch: &mut Vec<u64>) {
        let size = self.phase.teams.size() as usize;
        let stride = self.phase.teams.stride() as usize;
        let per_team = self.durations.len() / self.first_ranks.len();
        for (&first, durations) in self.first_ranks.iter().zip(self.durations.chunks(per_team)) {
            let first = first as usize;
            if stride == 1 {
                self.run_team(&mut times[first..first + size], durations);
                continue;
            }
            scratch.clear();
            scratch.extend(times[first..].iter().step_by(stride).take(size));
            self.run_team(scratch, durations);
            for (time, new) in times[first..].iter_mut().step_by(stride).zip(&*scratch) {
                *time = *new;
            }
        }
    }

    fn run_team(&self, times: &mut [u64], durations: &[u64]) {
        match self.phase.pattern {
            Pattern::Ring => ring(times, durations, self.phase.rounds()),
            Pattern::Gather => gather(times, durations),
            Pattern::Scatter => scatter(times, durations),
            Pattern::Exchange { fold, distance } => exchange(times, durations, fold, distance),
            Pattern::HandOver(_) | Pattern::HandBack(_) => hand(times, durations),
        }
    }
}

/// The messages whose durations a pass needs, as (round, sender's position, receiver's position), in
/// the order of [`PreparedPhase::durations`]; none for a member without one.
fn messages(pattern: Pattern, size: u32) -> impl Iterator<Item = Option<(u32, u32, u32)>> {
    let count = match pattern {
        Pattern::Ring | Pattern::Exchange { .. } => size,
        Pattern::Gather | Pattern::Scatter => size - 1,
        Pattern::HandOver(fold) | Pattern::HandBack(fold) => fold.extra,
    };
    (0..count).map(move |index| match pattern {
        Pattern::Ring => Some((0, (index + size - 1) % size, index)),
        Pattern::Gather => Some((index, index + 1, 0)),
        Pattern::Scatter => Some((index, 0, index + 1)),
        Pattern::Exchange { fold, distance } => {
            fold.number(index).map(|number| (0, fold.position(number ^ distance), index))
        }
        Pattern::HandOver(_) => Some((0, 2 * index, 2 * index + 1)),
        Pattern::HandBack(_) => Some((0, 2 * index + 1, 2 * index)),
    })
}

/// t[i] ← max(t[i], t[i−1]) + d[i], cyclically, `rounds` times.
fn ring(times: &mut [u64], durations: &[u64], rounds: u32) {
    for _ in 0..rounds {
        let last = times[times.len() - 1];
        // From the end, so that every member still sees its neighbour's time of the round before.
        for i in (1..times.len()).rev() {
            times[i] = times[i].max(times[i - 1]) + durations[i];
        }
        times[0] = times[0].max(last) + durations[0];
    }
}

/// The first member receives from each of the others in turn; they go on when it has.
fn gather(times: &mut [u64], durations: &[u64]) {
    for (position, duration) in (1..).zip(durations) {
        let end = times[0].max(times[position]) + duration;
        times[0] = end;
        times[position] = end;
    }
}

/// The first member sends to each of the others in turn: the same times as a gather.
fn scatter(times: &mut [u64], durations: &[u64]) {
    gather(times, durations);
}

/// Partners exchange: each goes on when the message of the other has come.
fn exchange(times: &mut [u64], durations: &[u64], fold: Fold, distance: u32) {
    let members = times.len() as u32 - fold.extra;
    // Each pair once, from its member whose number lacks the bit of the distance.
    for number in (0..members).filter(|number| number & distance == 0) {
        let left = fold.position(number) as usize;
        let right = fold.position(number | distance) as usize;
        let start = times[left].max(times[right]);
        times[left] = start + durations[left];
        times[right] = start + durations[right];
    }
}

/// In each folded pair one sends to the other; both go on when the message has come.
fn hand(times: &mut [u64], durations: &[u64]) {
    for (pair, duration) in times.chunks_exact_mut(2).zip(durations) {
        let end = pair[0].max(pair[1]) + duration;
        pair.fill(end);
    }
}

impl ArrayReplay {
    /// Looks up the duration of every message of `schedule` on `network`.
    pub fn new(schedule: &Schedule, network: &impl NetworkModel) -> Self {
        let sharers = schedule.sharers(network);
        let phases = (0..schedule.phases().len())
            .map(|index| PreparedPhase::new(schedule, index, &sharers, network))
            .collect();
        Self { ranks: schedule.ranks() as usize, phases, scratch: Vec::new() }
    }

    /// Replaces each rank's start (in picoseconds) by its finish.
    ///
    /// # Panics
    /// If there is not one time for each rank of the schedule.
    pub fn run(&mut self, times: &mut [u64]) {
        assert_eq!(times.len(), self.ranks, "one time for each rank");
        for phase in &self.phases {
            phase.run(times, &mut self.scratch);
        }
    }
}

/// When each rank is done, if rank i starts at `starts[i]`.
///
/// # Panics
/// If there is not one start for each rank of the schedule.
#[must_use]
pub fn replay_arrays(
    schedule: &Schedule,
    network: &impl NetworkModel,
    starts: &[SimTime],
) -> Vec<SimTime> {
    let mut times: Vec<u64> = starts.iter().map(|start| start.as_ps()).collect();
    ArrayReplay::new(schedule, network).run(&mut times);
    times.into_iter().map(SimTime::from_ps).collect()
}

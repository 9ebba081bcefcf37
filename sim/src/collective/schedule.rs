//! What a collective does, as data: phases of rounds over teams of ranks.

use std::collections::BTreeMap;

use crate::network::{LinkId, NetworkModel, Rank};
use crate::units::{Bytes, SimDuration};

/// Teams of equal size that do the same at the same time.
///
/// Ranks lie in blocks of `size · stride`; a team takes every `stride`-th rank of a block. With
/// `leaders_only` just the team that begins at the block's first rank takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Teams {
    size: u32,
    stride: u32,
    leaders_only: bool,
}

impl Teams {
    /// Consecutive ranks, `size` to a team.
    #[must_use]
    pub const fn blocks(size: u32) -> Self {
        Self { size, stride: 1, leaders_only: false }
    }

    /// One team of `size`: the first rank of every group of `group`.
    #[must_use]
    pub const fn leaders(size: u32, group: u32) -> Self {
        Self { size, stride: group, leaders_only: true }
    }

    /// Every `group`-th rank, `size` to a team: as many teams as a group has ranks.
    #[must_use]
    pub const fn columns(size: u32, group: u32) -> Self {
        Self { size, stride: group, leaders_only: false }
    }

    /// Ranks of one team.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// The distance between a team's neighbours.
    #[must_use]
    pub const fn stride(&self) -> u32 {
        self.stride
    }

    /// The first rank of each team, among `ranks`.
    pub fn first_ranks(self, ranks: u32) -> impl Iterator<Item = u32> {
        let block = self.size * self.stride;
        let offsets = if self.leaders_only { 1 } else { self.stride };
        (0..ranks / block).flat_map(move |b| (0..offsets).map(move |offset| b * block + offset))
    }

    /// The first rank of `rank`'s team and its position in it, if it takes part.
    fn place(&self, rank: Rank) -> Option<(u32, u32)> {
        let within = rank.0 % (self.size * self.stride);
        let (position, offset) = (within / self.stride, within % self.stride);
        let takes_part = !self.leaders_only || offset == 0;
        takes_part.then(|| (rank.0 - position * self.stride, position))
    }

    fn member(&self, first: u32, position: u32) -> Rank {
        Rank(first + position * self.stride)
    }
}

/// Who sends to whom inside a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Each member sends to the next, the last to the first, in every round.
    Ring,
    /// In round q member q + 1 sends to the first.
    Gather,
    /// In round q the first sends to member q + 1.
    Scatter,
    /// One round: partners at this distance, a power of two, exchange messages.
    Exchange {
        /// Who takes part.
        fold: Fold,
        /// The distance, between numbers after folding.
        distance: u32,
    },
    /// One round: the ranks that are folded away send to their neighbours.
    HandOver(Fold),
    /// One round: they receive from them.
    HandBack(Fold),
}

/// Makes a team a power of two: of its first 2·`extra` members each even one is folded into the odd
/// one after it. The others are numbered in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// How many members are folded away.
    pub extra: u32,
}

impl Fold {
    /// A member's number after folding; none if it is folded away.
    pub(super) const fn number(self, position: u32) -> Option<u32> {
        if position >= 2 * self.extra {
            Some(position - self.extra)
        } else if position % 2 == 1 {
            Some(position / 2)
        } else {
            None
        }
    }

    /// The member with a number after folding.
    pub(super) const fn position(self, number: u32) -> u32 {
        if number < self.extra { 2 * number + 1 } else { number + self.extra }
    }

    /// Whether a member is the even or the odd one of a folded pair.
    const fn pair(self, position: u32) -> Option<Side> {
        match (position < 2 * self.extra, position % 2) {
            (true, 0) => Some(Side::FoldedAway),
            (true, _) => Some(Side::Keeper),
            (false, _) => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    FoldedAway,
    Keeper,
}

impl Pattern {
    /// How many rounds a team of `size` takes.
    const fn rounds(self, size: u32) -> u32 {
        match self {
            Self::Ring | Self::Gather | Self::Scatter => size - 1,
            Self::Exchange { .. } | Self::HandOver(_) | Self::HandBack(_) => 1,
        }
    }

    /// How many rounds differ from each other: all of a ring's are alike.
    const fn distinct_rounds(self, size: u32) -> u32 {
        match self {
            Self::Ring => 1,
            other => other.rounds(size),
        }
    }

    /// How many messages a team of `size` sends in a round.
    const fn messages(self, size: u32) -> u32 {
        match self {
            Self::Ring => size,
            Self::Gather | Self::Scatter => 1,
            Self::Exchange { fold, .. } => size - fold.extra,
            Self::HandOver(fold) | Self::HandBack(fold) => fold.extra,
        }
    }
}

/// A rank's part in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peers {
    /// Whom it receives from.
    pub receives_from: Option<Rank>,
    /// Whom it sends to.
    pub sends_to: Option<Rank>,
}

/// Rounds of one pattern with messages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// What the phase is called, such as `reduce-scatter`.
    pub name: &'static str,
    /// Who takes part.
    pub teams: Teams,
    /// Who sends to whom.
    pub pattern: Pattern,
    /// The size of each message.
    pub message_bytes: Bytes,
}

impl Phase {
    /// How many rounds.
    #[must_use]
    pub const fn rounds(&self) -> u32 {
        self.pattern.rounds(self.teams.size)
    }

    /// What `rank` does in `round`.
    #[must_use]
    pub fn peers(&self, rank: Rank, round: u32) -> Peers {
        let Some((first, position)) = self.teams.place(rank) else {
            return Peers::default();
        };
        let size = self.teams.size;
        let member = |position: u32| Some(self.teams.member(first, position));
        match (self.pattern, position) {
            (Pattern::Ring, position) => Peers {
                receives_from: member((position + size - 1) % size),
                sends_to: member((position + 1) % size),
            },
            (Pattern::Gather, 0) => Peers { receives_from: member(round + 1), sends_to: None },
            (Pattern::Gather, p) if p == round + 1 => {
                Peers { receives_from: None, sends_to: member(0) }
            }
            (Pattern::Scatter, 0) => Peers { receives_from: None, sends_to: member(round + 1) },
            (Pattern::Scatter, p) if p == round + 1 => {
                Peers { receives_from: member(0), sends_to: None }
            }
            (Pattern::Gather | Pattern::Scatter, _) => Peers::default(),
            (Pattern::Exchange { fold, distance }, position) => {
                let partner = fold.number(position).map(|number| fold.position(number ^ distance));
                let partner = partner.and_then(member);
                Peers { receives_from: partner, sends_to: partner }
            }
            (Pattern::HandOver(fold), position) => match fold.pair(position) {
                Some(Side::FoldedAway) => {
                    Peers { receives_from: None, sends_to: member(position + 1) }
                }
                Some(Side::Keeper) => Peers { receives_from: member(position - 1), sends_to: None },
                None => Peers::default(),
            },
            (Pattern::HandBack(fold), position) => match fold.pair(position) {
                Some(Side::FoldedAway) => {
                    Peers { receives_from: member(position + 1), sends_to: None }
                }
                Some(Side::Keeper) => Peers { receives_from: None, sends_to: member(position - 1) },
                None => Peers::default(),
            },
        }
    }
}

/// How many messages share a link, phase by phase and round by round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharers {
    /// For each phase its distinct rounds, with the links that several messages leave by; no rounds
    /// where there are none.
    phases: Vec<Vec<BTreeMap<LinkId, u32>>>,
}

impl Sharers {
    /// How many messages leave by `link` in a round of a phase, at least one.
    #[must_use]
    pub fn of(&self, phase: usize, round: u32, link: LinkId) -> u32 {
        let rounds = &self.phases[phase];
        // One table stands for all rounds of a ring.
        let table = rounds.get(round as usize).or(rounds.last());
        table.and_then(|table| table.get(&link).copied()).unwrap_or(1)
    }

    /// Whether any link is shared.
    #[must_use]
    pub fn any(&self) -> bool {
        self.phases.iter().any(|rounds| !rounds.is_empty())
    }
}

/// What every rank of a collective does, round by round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    ranks: u32,
    phases: Vec<Phase>,
}

impl Schedule {
    /// A schedule over `ranks`; phases whose teams have one member have nothing to do and are left
    /// out.
    pub(super) fn new(ranks: u32, phases: impl IntoIterator<Item = Phase>) -> Self {
        let phases = phases.into_iter().filter(|phase| phase.teams.size > 1).collect();
        Self { ranks, phases }
    }

    /// A schedule in which nobody sends anything.
    #[must_use]
    pub const fn empty(ranks: u32) -> Self {
        Self { ranks, phases: Vec::new() }
    }

    /// How many ranks take part.
    #[must_use]
    pub const fn ranks(&self) -> u32 {
        self.ranks
    }

    /// The phases, in order.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// How many messages are sent in all.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.phases
            .iter()
            .map(|phase| {
                let teams = phase.teams.first_ranks(self.ranks).count() as u64;
                let messages = phase.pattern.messages(phase.teams.size);
                teams * u64::from(messages) * u64::from(phase.rounds())
            })
            .sum()
    }

    /// How many messages share each link, in each round.
    pub fn sharers(&self, network: &impl NetworkModel) -> Sharers {
        let shared = network.shares_links();
        let phases = self.phases.iter().map(|phase| {
            let rounds = if shared { phase.pattern.distinct_rounds(phase.teams.size) } else { 0 };
            let rounds: Vec<BTreeMap<LinkId, u32>> =
                (0..rounds).map(|round| self.crowds(phase, round, network)).collect();
            // Most phases have no crowds, and then need no tables.
            if rounds.iter().all(BTreeMap::is_empty) { Vec::new() } else { rounds }
        });
        Sharers { phases: phases.collect() }
    }

    /// The links that several messages of a round leave by, and how many.
    fn crowds(
        &self,
        phase: &Phase,
        round: u32,
        network: &impl NetworkModel,
    ) -> BTreeMap<LinkId, u32> {
        let mut counts = BTreeMap::new();
        for rank in (0..self.ranks).map(Rank) {
            if let Some(to) = phase.peers(rank, round).sends_to {
                *counts.entry(network.link(rank, to)).or_insert(0) += 1;
            }
        }
        counts.retain(|_, count| *count > 1);
        counts
    }

    /// How long each link is occupied in the whole collective, by the messages that leave by it.
    pub fn occupancy(&self, network: &impl NetworkModel) -> BTreeMap<LinkId, SimDuration> {
        let mut busy = BTreeMap::new();
        for phase in &self.phases {
            let rounds = phase.pattern.distinct_rounds(phase.teams.size);
            let repeats = u64::from(phase.rounds() / rounds);
            for round in 0..rounds {
                for rank in (0..self.ranks).map(Rank) {
                    if let Some(to) = phase.peers(rank, round).sends_to {
                        let time = network.transmission_time(rank, to, phase.message_bytes);
                        let link = network.link(rank, to);
                        *busy.entry(link).or_insert(SimDuration::ZERO) += time * repeats;
                    }
                }
            }
        }
        busy
    }
}

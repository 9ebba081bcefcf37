//! Ranks that work together, and how they share out a buffer.

use std::ops::Range;

use foretrain_sim::collective::Teams;

/// The team that a rank belongs to: a sub-communicator of equally spaced ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    teams: Teams,
    first: u32,
    position: u32,
}

impl Group {
    /// The team of `rank`, if it takes part.
    pub(super) fn of(teams: Teams, rank: u32) -> Option<Self> {
        let (first, position) = teams.place(rank)?;
        Some(Self { teams, first, position })
    }

    /// All ranks.
    pub(super) fn all(world: u32, rank: u32) -> Self {
        Self { teams: Teams::blocks(world), first: 0, position: rank }
    }

    /// The first rank and `other`, if `rank` is one of them.
    pub(super) fn pair(other: u32, rank: u32) -> Option<Self> {
        let position = match rank {
            0 => 0,
            rank if rank == other => 1,
            _ => return None,
        };
        Some(Self { teams: Teams::leaders(2, other), first: 0, position })
    }

    /// How many members.
    pub(super) fn size(&self) -> u32 {
        self.teams.size()
    }

    /// Where in it this rank is.
    pub(super) fn position(&self) -> u32 {
        self.position
    }

    /// The rank of a member.
    pub(super) fn rank(&self, position: u32) -> u32 {
        self.teams.member(self.first, position)
    }

    /// The positions of all others.
    pub(super) fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let position = self.position;
        (0..self.teams.size()).filter(move |other| *other != position)
    }
}

/// Block `block` of `blocks`, as even as whole elements allow: a block has at most one element more
/// than another. With fewer elements than blocks some are empty.
pub(super) fn block(count: usize, blocks: u32, block: u32) -> Range<usize> {
    let start = |block: u32| (count as u128 * u128::from(block) / u128::from(blocks)) as usize;
    start(block)..start(block + 1)
}

/// Some blocks in a row.
pub(super) fn span(count: usize, blocks: u32, span: Range<u32>) -> Range<usize> {
    block(count, blocks, span.start).start..block(count, blocks, span.end).start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_even_and_cover_everything_once() {
        for count in 0..50 {
            for blocks in 1..12 {
                let ranges: Vec<_> = (0..blocks).map(|b| block(count, blocks, b)).collect();
                assert_eq!((ranges[0].start, ranges[blocks as usize - 1].end), (0, count));
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                let floor = count / blocks as usize;
                let even = |range: &Range<usize>| [floor, floor + 1].contains(&range.len());
                assert!(ranges.iter().all(even), "{count} in {blocks}: {ranges:?}");
            }
        }
    }

    #[test]
    fn masters_are_the_first_of_each_group() {
        let masters = Teams::leaders(3, 4);
        assert_eq!(Group::of(masters, 5), None);
        let group = Group::of(masters, 8).unwrap();
        assert_eq!((group.size(), group.position(), group.rank(1)), (3, 2, 4));
        assert_eq!(group.others().collect::<Vec<_>>(), [0, 1]);
    }
}

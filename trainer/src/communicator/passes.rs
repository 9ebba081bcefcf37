//! The parts that all-reduces are composed of, each over a group of ranks.
//!
//! A pass moves blocks of one buffer; which rank has the sum of which block when it is over is what
//! the next pass builds on. A block is summed on one rank and copied to the others, so that all
//! end with the same bits. Who sends what to whom in which order is the simulator's [`Pattern`] of
//! the same name; blocks differ from its ceil(S/n) by less than one element.
//!
//! [`Pattern`]: foretrain_sim::collective::Pattern

use std::ops::Range;

use super::buffer::Element;
use super::endpoint::{Endpoint, data};
use super::error::CommunicatorError;
use super::group::{Group, block, span};
use super::transport::Transport;

type Result = std::result::Result<(), CommunicatorError>;

/// A buffer, and the way to the other ranks.
pub(super) struct Passes<'a, T, E> {
    pub(super) endpoint: &'a mut Endpoint<T>,
    pub(super) values: &'a mut [E],
}

impl<T: Transport, E: Element> Passes<'_, T, E> {
    fn send(&mut self, to: u32, range: Range<usize>) -> Result {
        let values = &self.values[range];
        self.endpoint.send(to, size_of_val(values), |bytes| E::write(values, bytes))
    }

    fn receive(&mut self, from: u32, range: Range<usize>, into: fn(&[u8], &mut [E])) -> Result {
        let values = &mut self.values[range];
        let message = self.endpoint.receive(from, Some(size_of_val(values)))?;
        into(data(&message), values);
        self.endpoint.recycle(message);
        Ok(())
    }

    fn all(&self) -> Range<usize> {
        0..self.values.len()
    }

    fn block(&self, group: &Group, position: u32) -> Range<usize> {
        block(self.values.len(), group.size(), position)
    }

    /// Around the ring; each member ends with the sum of its own block.
    pub(super) fn ring_reduce_scatter(&mut self, group: &Group) -> Result {
        self.around(group, 1, E::add)
    }

    /// Around the ring; each member begins with its own block and ends with all.
    pub(super) fn ring_all_gather(&mut self, group: &Group) -> Result {
        self.around(group, 0, E::read)
    }

    /// Every member sends a block to the next in every round, first the one `behind` its own.
    fn around(&mut self, group: &Group, behind: u32, into: fn(&[u8], &mut [E])) -> Result {
        let (size, position) = (group.size(), group.position());
        let (next, last) = (group.rank((position + 1) % size), (position + size - 1) % size);
        let last = group.rank(last);
        for round in 0..size - 1 {
            let sends = self.block(group, (position + 2 * size - behind - round) % size);
            let receives = self.block(group, (position + 2 * size - behind - round - 1) % size);
            self.send(next, sends)?;
            self.receive(last, receives, into)?;
        }
        Ok(())
    }

    /// Every member's block comes to the first.
    pub(super) fn gather(&mut self, group: &Group) -> Result {
        if group.position() > 0 {
            return self.send(group.rank(0), self.block(group, group.position()));
        }
        for other in group.others() {
            self.receive(group.rank(other), self.block(group, other), E::read)?;
        }
        Ok(())
    }

    /// Every member gets its block from the first.
    pub(super) fn scatter(&mut self, group: &Group) -> Result {
        if group.position() > 0 {
            return self.receive(group.rank(0), self.block(group, group.position()), E::read);
        }
        for other in group.others() {
            self.send(group.rank(other), self.block(group, other))?;
        }
        Ok(())
    }

    /// Up a binomial tree; the first ends with the sum of everything.
    pub(super) fn tree_reduce(&mut self, group: &Group) -> Result {
        let (size, position) = (group.size(), group.position());
        for distance in distances(size) {
            if position % (2 * distance) == distance {
                return self.send(group.rank(position - distance), self.all());
            }
            if position + distance < size {
                self.receive(group.rank(position + distance), self.all(), E::add)?;
            }
        }
        Ok(())
    }

    /// Down a binomial tree; all get what the first has.
    pub(super) fn tree_broadcast(&mut self, group: &Group) -> Result {
        let (size, position) = (group.size(), group.position());
        for distance in distances(size).rev() {
            match position % (2 * distance) {
                0 if position + distance < size => {
                    self.send(group.rank(position + distance), self.all())?;
                }
                within if within == distance => {
                    self.receive(group.rank(position - distance), self.all(), E::read)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Everybody sends to everybody; each member ends with the sum of its own block, in the order
    /// of members.
    pub(super) fn direct_reduce_scatter(&mut self, group: &Group) -> Result {
        for other in group.others() {
            self.send(group.rank(other), self.block(group, other))?;
        }
        let own = self.block(group, group.position());
        let bytes = own.len() * E::BYTES;
        let messages = group
            .others()
            .map(|other| self.endpoint.receive(group.rank(other), Some(bytes)))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let others: Vec<&[u8]> = messages.iter().map(|message| data(message)).collect();
        E::add_all(&others, &mut self.values[own], group.position() as usize);
        for message in messages {
            self.endpoint.recycle(message);
        }
        Ok(())
    }

    /// Everybody sends its own block to everybody.
    pub(super) fn direct_all_gather(&mut self, group: &Group) -> Result {
        for other in group.others() {
            self.send(group.rank(other), self.block(group, group.position()))?;
        }
        for other in group.others() {
            self.receive(group.rank(other), self.block(group, other), E::read)?;
        }
        Ok(())
    }

    /// All-reduce by recursive halving and doubling. Of the first members, as many as there are
    /// beyond a power of two, each even one first hands its data to the odd one after it, and gets
    /// the sum back in the end.
    pub(super) fn halving_doubling(&mut self, group: &Group) -> Result {
        let (size, position) = (group.size(), group.position());
        let numbers = 1_u32 << size.ilog2();
        let extra = size - numbers;
        let paired = position < 2 * extra;
        if paired && position.is_multiple_of(2) {
            self.send(group.rank(position + 1), self.all())?;
            return self.receive(group.rank(position + 1), self.all(), E::read);
        }
        if paired {
            self.receive(group.rank(position - 1), self.all(), E::add)?;
        }
        let number = if paired { position / 2 } else { position - extra };
        let partner = |distance| {
            let number = number ^ distance;
            group.rank(if number < extra { 2 * number + 1 } else { number + extra })
        };
        let count = self.values.len();
        let blocks = |blocks| span(count, numbers, blocks);
        // The blocks that this number keeps, and those that its partner does, at a distance.
        let halves = |distance: u32| {
            let first = number & !(2 * distance - 1);
            let (lower, upper) = (first..first + distance, first + distance..first + 2 * distance);
            if number & distance == 0 { (lower, upper) } else { (upper, lower) }
        };
        for distance in distances(numbers).rev() {
            let (kept, given) = halves(distance);
            self.send(partner(distance), blocks(given))?;
            self.receive(partner(distance), blocks(kept), E::add)?;
        }
        for distance in distances(numbers) {
            let (kept, given) = halves(distance);
            self.send(partner(distance), blocks(kept))?;
            self.receive(partner(distance), blocks(given), E::read)?;
        }
        if paired {
            self.send(group.rank(position - 1), self.all())?;
        }
        Ok(())
    }
}

/// The powers of two below a size.
fn distances(size: u32) -> impl DoubleEndedIterator<Item = u32> {
    let levels = size.next_power_of_two().ilog2();
    (0..levels).map(|level| 1 << level)
}

//! Where buffers lie in the arena.
//!
//! Two buffers may share memory if one is read for the last time before the other is first written.
//! Places are given out greedily, large buffers first, each at the lowest offset that is free for
//! its whole lifetime (the "greedy by size" of Pisarchyk and Lee, arXiv 2001.03288).

use super::Buffer;

/// Offsets are multiples of this many elements, so that rows begin at the boundaries of vectors
/// whatever the batch.
const ALIGNMENT_ELEMENTS: usize = 16;

/// Sets the offset of every buffer and gives the size of the arena.
pub(super) fn place(buffers: &mut [Buffer]) -> usize {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&index| {
        (std::cmp::Reverse(buffers[index].elements), *buffers[index].lifetime.start(), index)
    });
    let mut placed: Vec<usize> = Vec::new();
    let mut arena = 0;
    for index in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| overlap(&buffers[other], &buffers[index]))
            .map(|&other| (buffers[other].offset, end(&buffers[other])))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + buffers[index].elements <= start {
                break;
            }
            offset = offset.max(end);
        }
        buffers[index].offset = offset;
        arena = arena.max(end(&buffers[index]));
        placed.push(index);
    }
    arena
}

/// The first aligned element after a buffer.
const fn end(buffer: &Buffer) -> usize {
    (buffer.offset + buffer.elements).next_multiple_of(ALIGNMENT_ELEMENTS)
}

/// Whether two buffers are needed at the same time.
pub(super) fn overlap(one: &Buffer, other: &Buffer) -> bool {
    one.lifetime.start() <= other.lifetime.end() && other.lifetime.start() <= one.lifetime.end()
}

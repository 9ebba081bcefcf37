//! How many blocks a kernel gets.
//!
//! Loops in kernels stride by the grid, so these numbers decide how fast a kernel is, not what it
//! computes.

/// Threads of a block: `THREADS` in `kernels/common.h`.
pub const THREADS: u32 = 256;

/// Elements that a thread reads at once: `VECTOR` in `kernels/common.h`.
pub const VECTOR: u32 = 8;

/// Threads that take each step together: `WARP` in `kernels/common.h`.
const WARP: u32 = 32;

/// Blocks of a grid at most: 32 for each of the 132 multiprocessors of an H100. As it holds no more
/// than eight at a time, the last round is a small part of the whole even if few fit.
pub const BLOCKS_MAX: u32 = 132 * 32;

/// Rows that a thread has on their way at a time: `APPLY_ROWS` in `kernels/batch_norm.cu`.
const ROWS_AT_ONCE: u64 = 2;

/// The grid in which each thread has one of `items` things to do, or several if there are more than
/// the largest grid has threads.
#[must_use]
pub fn blocks_for(items: u64) -> u32 {
    items.div_ceil(u64::from(THREADS)).clamp(1, u64::from(BLOCKS_MAX)) as u32
}

/// How a block's threads share rows of channels; the twin of `kernels/rows.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Vectors of a row.
    pub vectors: u32,
    /// Tiles of a row; a block looks at one.
    pub tiles: u32,
    /// Vectors of a tile; the last may have fewer.
    pub width: u32,
    /// Rows that a block looks at side by side.
    pub lanes: u32,
}

impl Tiling {
    /// For so many channels, a multiple of eight.
    #[must_use]
    pub const fn new(channels: u32) -> Self {
        let vectors = channels / VECTOR;
        let tiles = vectors.div_ceil(WARP);
        let width = vectors.div_ceil(tiles);
        Self { vectors, tiles, width, lanes: THREADS / width }
    }

    /// The grid for rows of so many vectors in all, of which threads have two on their way at a time.
    #[must_use]
    pub fn grid(self, vectors: u64) -> u32 {
        let rows = vectors / u64::from(self.vectors);
        let parts = rows.div_ceil(u64::from(self.lanes) * ROWS_AT_ONCE);
        let most = (BLOCKS_MAX / self.tiles).max(1);
        parts.clamp(1, u64::from(most)) as u32 * self.tiles
    }
}

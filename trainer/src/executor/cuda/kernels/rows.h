// Rows of channels: which thread looks at what, and sums over rows.
//
// The vectors of a row are cut into tiles of at most WARP of them. A block looks at one tile at a
// time: of `width` threads that lie together each has one vector, the same in all rows it looks at,
// so that what is of a channel is read once; `lanes` rows are looked at side by side. The width need
// not be a power of two; threads that are left over do nothing. The twin in Rust is in
// arguments/grid.rs.

struct Tiling {
    // Vectors of a row.
    u32 vectors;
    u32 tiles;
    // Vectors of a tile; the last may have fewer.
    u32 width;
    u32 lanes;
};

DEVICE struct Tiling tiling_of(u32 channels) {
    struct Tiling tiling;
    tiling.vectors = channels / VECTOR;
    tiling.tiles = (tiling.vectors + WARP - 1) / WARP;
    tiling.width = (tiling.vectors + tiling.tiles - 1) / tiling.tiles;
    tiling.lanes = THREADS / tiling.width;
    return tiling;
}

// This thread's place in a tile.
struct Place {
    // Its vector in the row.
    u32 vector;
    // Its row among those side by side.
    u32 lane;
    // Whether it has something to look at.
    u32 used;
};

DEVICE struct Place place_in(struct Tiling tiling, u32 tile) {
    struct Place place;
    u32 column = threadIdx.x % tiling.width;
    place.vector = tile * tiling.width + column;
    place.lane = threadIdx.x / tiling.width;
    place.used = place.lane < tiling.lanes && place.vector < tiling.vectors;
    return place;
}

// Into how many parts a grid can cut the rows if each block has one tile of one part; one if the
// grid is smaller.
DEVICE u32 parts_of_grid(struct Tiling tiling) {
    u32 parts = gridDim.x / tiling.tiles;
    return parts > 0 ? parts : 1;
}

// The channel whose sum `sum_over_lanes` gives to this thread.
DEVICE u32 channel_of_sum(struct Tiling tiling, u32 tile) {
    return tile * tiling.width * VECTOR + threadIdx.x;
}

// Whether there is such a channel.
DEVICE u32 has_sum(struct Tiling tiling, u32 tile) {
    return threadIdx.x < tiling.width * VECTOR &&
           channel_of_sum(tiling, tile) < tiling.vectors * VECTOR;
}

// Adds the vectors of the lanes, in their order. A tile has at most as many channels as a block has
// threads, so each thread gets the sum of one channel, if there is one for it. All must call it.
DEVICE float sum_over_lanes(struct Tiling tiling, struct Vector value) {
    // With four more columns, no two threads of a warp meet in a bank of the memory when eight
    // threads read the channels of one vector.
    SHARED float held[VECTOR][THREADS + 4];
    __syncthreads();
    for (int j = 0; j < VECTOR; ++j) held[j][threadIdx.x] = value.of[j];
    __syncthreads();
    float sum = 0.0f;
    if (threadIdx.x < tiling.width * VECTOR) {
        u32 column = threadIdx.x / VECTOR, j = threadIdx.x % VECTOR;
        for (u32 lane = 0; lane < tiling.lanes; ++lane) {
            sum += held[j][lane * tiling.width + column];
        }
    }
    return sum;
}

DEVICE struct Vector zero_vector(void) {
    struct Vector vector;
    for (int j = 0; j < VECTOR; ++j) vector.of[j] = 0.0f;
    return vector;
}

// Sums of a channel.
struct Sums {
    double first;
    double second;
};

// How many channels a block finishes at a time: as many as lie in 32 bytes.
#define FINISHED 8

// The sums of channel `channel` over what `blocks` blocks wrote, a row of `2 × channels` each. All
// must call it, with `channel` the first of FINISHED plus threadIdx.x % FINISHED; the first FINISHED
// threads get the sums. The order depends on `blocks` only.
DEVICE struct Sums sum_over_blocks(const float *partial, u32 channel, u32 channels, u32 blocks) {
    SHARED double held[2][THREADS];
    struct Sums sums;
    sums.first = sums.second = 0.0;
    for (u32 block = threadIdx.x / FINISHED; block < blocks; block += THREADS / FINISHED) {
        const float *of_block = partial + 2 * (u64)block * channels + channel;
        sums.first += (double)of_block[0];
        sums.second += (double)of_block[channels];
    }
    __syncthreads();
    held[0][threadIdx.x] = sums.first;
    held[1][threadIdx.x] = sums.second;
    __syncthreads();
    if (threadIdx.x < FINISHED) {
        for (u32 thread = threadIdx.x + FINISHED; thread < THREADS; thread += FINISHED) {
            sums.first += held[0][thread];
            sums.second += held[1][thread];
        }
    }
    return sums;
}

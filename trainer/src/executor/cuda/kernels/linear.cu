// Biases: what matrix products leave to do.

struct AddBias {
    element *y;
    const float *bias;
    u64 rows;
    u32 columns;
};

KERNEL(add_bias, AddBias) {
    u64 elements = arguments.rows * arguments.columns;
    if (arguments.columns % VECTOR == 0) {
        // Eight columns are of one row.
        u32 vectors_of_row = arguments.columns / VECTOR;
        for (u64 i = thread_in_grid(); i < elements / VECTOR; i += threads_of_grid()) {
            struct Vector y = load_vector(arguments.y, i);
            struct Vector bias = load_floats(arguments.bias, i % vectors_of_row);
            for (int j = 0; j < VECTOR; ++j) y.of[j] += bias.of[j];
            store_vector(arguments.y, i, y);
        }
        return;
    }
    for (u64 i = thread_in_grid(); i < elements; i += threads_of_grid()) {
        float bias = arguments.bias[i % arguments.columns];
        arguments.y[i] = from_float(to_float(arguments.y[i]) + bias);
    }
}

struct ColumnSums {
    const element *from;
    float *partial;
    u64 rows;
    u32 columns;
};

// A block has rows that lie together. Its threads stand side by side on columns (eight each, where
// eight are of one row) and, if that leaves threads over, on several rows; what these find is added
// row after row.
KERNEL(column_sums, ColumnSums) {
    SHARED struct Vector sums[THREADS];
    u32 columns = arguments.columns, group = columns % VECTOR == 0 ? VECTOR : 1;
    u32 groups = columns / group;
    u32 width = groups < THREADS ? groups : THREADS, height = THREADS / width;
    u64 rows_of_block = (arguments.rows + gridDim.x - 1) / gridDim.x;
    u64 first = blockIdx.x * rows_of_block, end = first + rows_of_block;
    if (end > arguments.rows) end = arguments.rows;
    float *partial = arguments.partial + (u64)blockIdx.x * columns;
    u32 across = threadIdx.x % width, down = threadIdx.x / width;
    for (u32 start = 0; start < groups; start += width) {
        u32 at = start + across;
        struct Vector sum;
        for (int j = 0; j < VECTOR; ++j) sum.of[j] = 0.0f;
        if (at < groups && down < height) {
            for (u64 row = first + down; row < end; row += height) {
                if (group == 1) {
                    sum.of[0] += to_float(arguments.from[row * columns + at]);
                } else {
                    struct Vector x = load_vector(arguments.from, row * groups + at);
                    for (int j = 0; j < VECTOR; ++j) sum.of[j] += x.of[j];
                }
            }
        }
        __syncthreads();
        sums[threadIdx.x] = sum;
        __syncthreads();
        u32 here = groups - start < width ? groups - start : width;
        for (u32 i = threadIdx.x; i < here * group; i += THREADS) {
            float total = 0.0f;
            for (u32 row = 0; row < height; ++row) {
                total += sums[row * width + i / group].of[i % group];
            }
            partial[start * group + i] = total;
        }
    }
}

struct ColumnSumsFinish {
    const float *partial;
    element *to;
    u32 blocks;
    u32 columns;
};

// A block has as many columns as a warp has threads; each warp adds up an equal part of what the
// blocks found, in their order, and then the warps' sums are added in theirs.
KERNEL(column_sums_finish, ColumnSumsFinish) {
    SHARED float sums[THREADS];
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u32 part = (arguments.blocks + THREADS / WARP - 1) / (THREADS / WARP);
    u32 end = (warp + 1) * part < arguments.blocks ? (warp + 1) * part : arguments.blocks;
    u64 step = (u64)gridDim.x * WARP;
    for (u64 first = (u64)blockIdx.x * WARP; first < arguments.columns; first += step) {
        u64 column = first + lane;
        float sum = 0.0f;
        if (column < arguments.columns) {
            for (u32 block = warp * part; block < end; ++block) {
                sum += arguments.partial[(u64)block * arguments.columns + column];
            }
        }
        __syncthreads();
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (warp == 0 && column < arguments.columns) {
            for (u32 other = 1; other < THREADS / WARP; ++other) sum += sums[other * WARP + lane];
            arguments.to[column] = from_float(sum);
        }
    }
}

// Pools over windows and over whole images. Activations lie as images × height × width × channels; a
// thread looks at the same eight channels of all pixels that it needs.

// The geometry of a pool.
struct Pool {
    u32 images;
    u32 channels;
    u32 input_height;
    u32 input_width;
    u32 output_height;
    u32 output_width;
    u32 kernel;
    u32 stride;
    u32 padding;
};

// The offsets first..last (without last) in a window, or the windows of a pixel.
struct Span {
    u32 first;
    u32 last;
};

// The offsets at which the window of output row (or column) `output` is inside the image.
DEVICE struct Span inside(struct Pool pool, u32 output, u32 size) {
    u32 start = output * pool.stride;
    struct Span span;
    span.first = start < pool.padding ? pool.padding - start : 0;
    span.last = size + pool.padding - start;
    if (span.last > pool.kernel) span.last = pool.kernel;
    return span;
}

// With the common strides no division is needed.
DEVICE u32 steps(u32 distance, u32 stride) {
    return stride == 2 ? distance / 2 : stride == 1 ? distance : distance / stride;
}

// The output rows (or columns) whose window sees input row (or column) `input`.
DEVICE struct Span seeing(struct Pool pool, u32 input, u32 size) {
    u32 padded = input + pool.padding;
    struct Span span;
    span.first = padded < pool.kernel ? 0 : steps(padded - pool.kernel, pool.stride) + 1;
    span.last = steps(padded, pool.stride) + 1;
    if (span.last > size) span.last = size;
    return span;
}

// Eight positions, one a byte, the first channel's lowest.
DEVICE u64 all_at_position(u32 position) { return 0x0101010101010101ull * position; }

struct MaxPool {
    const element *x;
    element *y;
    u64 *positions;
    u32 images;
    u32 channels;
    u32 input_height;
    u32 input_width;
    u32 output_height;
    u32 output_width;
    u32 kernel;
    u32 stride;
    u32 padding;
};

// The largest so far and its position, for eight channels.
struct Largest {
    struct Vector value;
    u32 position[VECTOR];
};

DEVICE void compare(struct Largest *largest, struct Vector x, u32 position) {
    for (int j = 0; j < VECTOR; ++j) {
        // What is no number is larger than all, and unequal to itself.
        u32 larger = (x.of[j] > largest->value.of[j]) | (x.of[j] != x.of[j]);
        largest->value.of[j] = larger ? x.of[j] : largest->value.of[j];
        largest->position[j] = larger ? position : largest->position[j];
    }
}

// A block looks at one image at a time, at as many vectors of its output as there are threads.
KERNEL(max_pool, MaxPool) {
    struct Pool pool = {
        arguments.images, arguments.channels, arguments.input_height, arguments.input_width,
        arguments.output_height, arguments.output_width, arguments.kernel, arguments.stride,
        arguments.padding,
    };
    u32 vectors = pool.channels / VECTOR;
    u32 of_image = pool.output_height * pool.output_width * vectors;
    u32 blocks = (of_image + THREADS - 1) / THREADS;
    for (u64 item = blockIdx.x; item < (u64)pool.images * blocks; item += gridDim.x) {
        u32 image = (u32)(item / blocks), index = (u32)(item % blocks) * THREADS + threadIdx.x;
        if (index >= of_image) continue;
        u32 pixel = index / vectors, vector = index % vectors;
        u32 row = pixel / pool.output_width, column = pixel % pool.output_width;
        struct Span down = inside(pool, row, pool.input_height);
        struct Span right = inside(pool, column, pool.input_width);
        struct Largest largest;
        for (int j = 0; j < VECTOR; ++j) {
            largest.value.of[j] = float_of_bits(0xff800000u);
            largest.position[j] = down.first * pool.kernel + right.first;
        }
        for (u32 i = down.first; i < down.last; ++i) {
            u64 input_row = (u64)image * pool.input_height + row * pool.stride + i - pool.padding;
            u64 from = input_row * pool.input_width + column * pool.stride + right.first - pool.padding;
            from = from * vectors + vector;
            u32 position = i * pool.kernel + right.first, count = right.last - right.first;
            u32 k = 0;
            // Three pixels are on their way at a time.
            for (; k + 3 <= count; k += 3, from += 3 * vectors) {
                struct Vector x[3];
                for (int ahead = 0; ahead < 3; ++ahead) {
                    x[ahead] = load_vector(arguments.x, from + (u64)ahead * vectors);
                }
                for (int ahead = 0; ahead < 3; ++ahead) {
                    compare(&largest, x[ahead], position + k + ahead);
                }
            }
            for (; k < count; ++k, from += vectors) {
                compare(&largest, load_vector(arguments.x, from), position + k);
            }
        }
        u64 positions = 0, at = (u64)image * of_image + index;
        for (int j = 0; j < VECTOR; ++j) positions |= (u64)largest.position[j] << 8 * j;
        store_vector(arguments.y, at, largest.value);
        arguments.positions[at] = positions;
    }
}

struct MaxPoolBackward {
    const element *dy;
    const u64 *positions;
    element *dx;
    u32 images;
    u32 channels;
    u32 input_height;
    u32 input_width;
    u32 output_height;
    u32 output_width;
    u32 kernel;
    u32 stride;
    u32 padding;
    u32 accumulate;
};

// Each input pixel asks the windows that see it, in their order.
KERNEL(max_pool_backward, MaxPoolBackward) {
    struct Pool pool = {
        arguments.images, arguments.channels, arguments.input_height, arguments.input_width,
        arguments.output_height, arguments.output_width, arguments.kernel, arguments.stride,
        arguments.padding,
    };
    u32 vectors = pool.channels / VECTOR;
    u32 of_image = pool.input_height * pool.input_width * vectors;
    u32 blocks = (of_image + THREADS - 1) / THREADS;
    for (u64 item = blockIdx.x; item < (u64)pool.images * blocks; item += gridDim.x) {
        u32 image = (u32)(item / blocks), index = (u32)(item % blocks) * THREADS + threadIdx.x;
        if (index >= of_image) continue;
        u32 pixel = index / vectors, vector = index % vectors;
        u32 row = pixel / pool.input_width, column = pixel % pool.input_width;
        struct Span rows = seeing(pool, row, pool.output_height);
        struct Span columns = seeing(pool, column, pool.output_width);
        struct Vector sum = zero_vector();
        for (u32 i = rows.first; i < rows.last; ++i) {
            u32 down = row + pool.padding - i * pool.stride;
            u64 from = (u64)image * pool.output_height + i;
            for (u32 k = columns.first; k < columns.last; ++k) {
                u64 at = (from * pool.output_width + k) * vectors + vector;
                u32 position = down * pool.kernel + column + pool.padding - k * pool.stride;
                struct Vector dy = load_vector(arguments.dy, at);
                u64 differs = arguments.positions[at] ^ all_at_position(position);
                for (int j = 0; j < VECTOR; ++j) {
                    sum.of[j] += (differs >> 8 * j & 0xff) == 0 ? dy.of[j] : 0.0f;
                }
            }
        }
        put_vector(arguments.dx, (u64)image * of_image + index, sum, arguments.accumulate);
    }
}

struct AveragePool {
    const element *x;
    element *y;
    u32 images;
    u32 pixels;
    u32 channels;
};

#define AVERAGE_ROWS 4

// A block looks at one tile of one image at a time, its lanes at pixels.
KERNEL(average_pool, AveragePool) {
    struct Tiling tiling = tiling_of(arguments.channels);
    u64 items = (u64)arguments.images * tiling.tiles;
    for (u64 item = blockIdx.x; item < items; item += gridDim.x) {
        u32 image = (u32)(item / tiling.tiles), tile = (u32)(item % tiling.tiles);
        struct Place place = place_in(tiling, tile);
        struct Vector sum = zero_vector();
        if (place.used) {
            u64 first = (u64)image * arguments.pixels, end = first + arguments.pixels;
            u64 row = first + place.lane, step = tiling.lanes;
            for (; row + (AVERAGE_ROWS - 1) * step < end; row += AVERAGE_ROWS * step) {
                struct Vector x[AVERAGE_ROWS];
                for (int k = 0; k < AVERAGE_ROWS; ++k) {
                    x[k] = load_vector(arguments.x, (row + k * step) * tiling.vectors + place.vector);
                }
                for (int k = 0; k < AVERAGE_ROWS; ++k) {
                    for (int j = 0; j < VECTOR; ++j) sum.of[j] += x[k].of[j];
                }
            }
            for (; row < end; row += step) {
                struct Vector x = load_vector(arguments.x, row * tiling.vectors + place.vector);
                for (int j = 0; j < VECTOR; ++j) sum.of[j] += x.of[j];
            }
        }
        float of_channel = sum_over_lanes(tiling, sum);
        if (has_sum(tiling, tile)) {
            u64 at = (u64)image * arguments.channels + channel_of_sum(tiling, tile);
            arguments.y[at] = from_float(of_channel / (float)arguments.pixels);
        }
    }
}

struct AveragePoolBackward {
    const element *dy;
    element *dx;
    u32 images;
    u32 pixels;
    u32 channels;
    u32 accumulate;
};

KERNEL(average_pool_backward, AveragePoolBackward) {
    struct Tiling tiling = tiling_of(arguments.channels);
    u64 items = (u64)arguments.images * tiling.tiles;
    for (u64 item = blockIdx.x; item < items; item += gridDim.x) {
        u32 image = (u32)(item / tiling.tiles);
        struct Place place = place_in(tiling, (u32)(item % tiling.tiles));
        if (!place.used) continue;
        struct Vector part = load_vector(arguments.dy, (u64)image * tiling.vectors + place.vector);
        for (int j = 0; j < VECTOR; ++j) part.of[j] /= (float)arguments.pixels;
        for (u32 pixel = place.lane; pixel < arguments.pixels; pixel += tiling.lanes) {
            u64 row = (u64)image * arguments.pixels + pixel;
            put_vector(arguments.dx, row * tiling.vectors + place.vector, part, arguments.accumulate);
        }
    }
}

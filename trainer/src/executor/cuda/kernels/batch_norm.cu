// Batch normalisation (Ioffe and Szegedy, arXiv 1502.03167) with what follows it, forward and
// backward. With m and v the mean and the (biased) variance of a channel over n rows, and
// s = 1 / √(v + ε):
//
// - forward: y = γ s (x − m) + β, then y + r, then max(y, 0);
// - backward, with z the gradient of y where the ReLU let it pass and else 0, which is also that of r:
//   dβ = Σ z, dγ = s Σ z (x − m), dx = γ s (z − dβ/n − s (x − m) dγ/n).
//
// Activations are read and written once a kernel and nothing else is large, so that what counts is
// how many bytes are on their way at a time: the vectors of several rows are read before any is
// computed with.

struct BatchNormStatistics {
    const element *x;
    float *partial;
    u64 rows;
    u32 channels;
    u32 blocks;
};

#define STATISTICS_ROWS 4

DEVICE void note_deviations(
    struct Vector x, struct Vector origin, struct Vector *sum, struct Vector *squares
) {
    for (int j = 0; j < VECTOR; ++j) {
        float deviation = x.of[j] - origin.of[j];
        sum->of[j] += deviation;
        squares->of[j] += deviation * deviation;
    }
}

// Part `block` of the rows is every `blocks`-th set of rows that are looked at side by side.
KERNEL(batch_norm_statistics, BatchNormStatistics) {
    struct Tiling tiling = tiling_of(arguments.channels);
    u64 items = (u64)arguments.blocks * tiling.tiles;
    for (u64 item = blockIdx.x; item < items; item += gridDim.x) {
        u32 block = (u32)(item / tiling.tiles), tile = (u32)(item % tiling.tiles);
        struct Place place = place_in(tiling, tile);
        struct Vector sum = zero_vector(), squares = zero_vector();
        if (place.used) {
            struct Vector origin = load_vector(arguments.x, place.vector);
            u64 row = (u64)block * tiling.lanes + place.lane;
            u64 step = (u64)arguments.blocks * tiling.lanes;
            for (; row + (STATISTICS_ROWS - 1) * step < arguments.rows; row += STATISTICS_ROWS * step) {
                struct Vector x[STATISTICS_ROWS];
                for (int k = 0; k < STATISTICS_ROWS; ++k) {
                    x[k] = load_vector(arguments.x, (row + k * step) * tiling.vectors + place.vector);
                }
                for (int k = 0; k < STATISTICS_ROWS; ++k) note_deviations(x[k], origin, &sum, &squares);
            }
            for (; row < arguments.rows; row += step) {
                struct Vector x = load_vector(arguments.x, row * tiling.vectors + place.vector);
                note_deviations(x, origin, &sum, &squares);
            }
        }
        float of_sum = sum_over_lanes(tiling, sum);
        float of_squares = sum_over_lanes(tiling, squares);
        if (has_sum(tiling, tile)) {
            float *to = arguments.partial + 2 * (u64)block * arguments.channels;
            to += channel_of_sum(tiling, tile);
            to[0] = of_sum;
            to[arguments.channels] = of_squares;
        }
    }
}

struct BatchNormFinish {
    const element *x;
    const float *partial;
    const float *gamma;
    const float *beta;
    float *mean;
    float *inverse;
    float *scale;
    float *shift;
    const float *running_mean;
    const float *running_variance;
    float *next_mean;
    float *next_variance;
    u64 rows;
    u32 channels;
    u32 blocks;
    float epsilon;
    float weight;
    u32 first;
};

// With a group's part of the momentum as weight, all groups together leave
// running + momentum · (mean of their values − running), however many they are.
DEVICE void follow(float *next, u32 first, float running, double value, float weight) {
    double from = first ? (double)running : (double)*next;
    *next = (float)(from + (double)weight * (value - (double)running));
}

KERNEL(batch_norm_finish, BatchNormFinish) {
    for (u32 from = blockIdx.x * FINISHED; from < arguments.channels; from += gridDim.x * FINISHED) {
        u32 channel = from + threadIdx.x % FINISHED;
        struct Sums sums =
            sum_over_blocks(arguments.partial, channel, arguments.channels, arguments.blocks);
        if (threadIdx.x >= FINISHED) continue;
        double rows = (double)arguments.rows, deviation = sums.first / rows;
        double mean = (double)to_float(arguments.x[channel]) + deviation;
        double variance = sums.second / rows - deviation * deviation;
        // What is no number stays none, so that it is seen in the loss.
        if (variance < 0.0) variance = 0.0;
        double inverse = 1.0 / sqrt(variance + (double)arguments.epsilon);
        float scale = (float)((double)arguments.gamma[channel] * inverse);
        arguments.mean[channel] = (float)mean;
        arguments.inverse[channel] = (float)inverse;
        arguments.scale[channel] = scale;
        // With the scale as it was rounded, x · scale + shift is β at the mean.
        arguments.shift[channel] = (float)((double)arguments.beta[channel] - mean * (double)scale);
        double unbiased = variance * rows / (rows > 2.0 ? rows - 1.0 : 1.0);
        float running_mean = arguments.running_mean[channel];
        float running_variance = arguments.running_variance[channel];
        float weight = arguments.weight;
        follow(arguments.next_mean + channel, arguments.first, running_mean, mean, weight);
        follow(arguments.next_variance + channel, arguments.first, running_variance, unbiased, weight);
    }
}

struct BatchNormRunning {
    const float *mean;
    const float *variance;
    const float *gamma;
    const float *beta;
    float *scale;
    float *shift;
    u32 channels;
    float epsilon;
};

KERNEL(batch_norm_running, BatchNormRunning) {
    for (u64 i = thread_in_grid(); i < arguments.channels; i += threads_of_grid()) {
        double deviation = sqrt((double)arguments.variance[i] + (double)arguments.epsilon);
        float scale = (float)((double)arguments.gamma[i] / deviation);
        double mean = (double)arguments.mean[i];
        arguments.scale[i] = scale;
        arguments.shift[i] = (float)((double)arguments.beta[i] - mean * (double)scale);
    }
}

struct BatchNormApply {
    const element *x;
    const element *residual;
    element *y;
    const float *scale;
    const float *shift;
    u64 vectors;
    u32 channels;
    u32 relu;
};

// Rows that a thread has on their way in what follows.
#define APPLY_ROWS 2

KERNEL(batch_norm_apply, BatchNormApply) {
    struct Tiling tiling = tiling_of(arguments.channels);
    u32 parts = parts_of_grid(tiling), items = parts * tiling.tiles;
    u64 step = (u64)parts * tiling.lanes * tiling.vectors;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        struct Place place = place_in(tiling, item % tiling.tiles);
        if (!place.used) continue;
        struct Vector scale = load_floats(arguments.scale, place.vector);
        struct Vector shift = load_floats(arguments.shift, place.vector);
        u64 row = (u64)(item / tiling.tiles) * tiling.lanes + place.lane;
        u64 at = row * tiling.vectors + place.vector;
        for (; at < arguments.vectors; at += APPLY_ROWS * step) {
            struct Vector x[APPLY_ROWS], residual[APPLY_ROWS];
            for (int k = 0; k < APPLY_ROWS; ++k) {
                // In the place of rows after the last, the first: reading it again costs nothing.
                u64 from = at + k * step < arguments.vectors ? at + k * step : at;
                x[k] = load_vector(arguments.x, from);
                if (arguments.residual) residual[k] = load_vector(arguments.residual, from);
                else residual[k] = zero_vector();
            }
            for (int k = 0; k < APPLY_ROWS; ++k) {
                for (int j = 0; j < VECTOR; ++j) {
                    float y = x[k].of[j] * scale.of[j] + shift.of[j] + residual[k].of[j];
                    x[k].of[j] = arguments.relu && y <= 0.0f ? 0.0f : y;
                }
                if (at + k * step < arguments.vectors) store_vector(arguments.y, at + k * step, x[k]);
            }
        }
    }
}

// What gradients are of: vectors of x, of what the ReLU let pass where it is above 0, and of dy.
struct Backward {
    struct Vector x;
    struct Vector mask;
    struct Vector dy;
};

// Without a ReLU, the mask is anything that can be read: a branch would keep loads from being on their
// way together.
DEVICE struct Backward load_backward(const element *x, const element *y, const element *dy, u64 index) {
    struct Backward backward;
    backward.x = load_vector(x, index);
    backward.mask = load_vector(y ? y : dy, index);
    backward.dy = load_vector(dy, index);
    return backward;
}

// z: the gradient where the ReLU let the value pass, as it does what is no number.
DEVICE struct Vector passed_gradient(struct Backward backward, u32 relu) {
    struct Vector z;
    for (int j = 0; j < VECTOR; ++j) {
        z.of[j] = relu & (backward.mask.of[j] <= 0.0f) ? 0.0f : backward.dy.of[j];
    }
    return z;
}

struct BatchNormGradientSums {
    const element *x;
    const element *y;
    const element *dy;
    const float *mean;
    float *partial;
    u64 rows;
    u32 channels;
    u32 blocks;
};

DEVICE void note_gradients(
    struct Backward backward, u32 relu, struct Vector mean, struct Vector *sum, struct Vector *products
) {
    struct Vector z = passed_gradient(backward, relu);
    for (int j = 0; j < VECTOR; ++j) {
        sum->of[j] += z.of[j];
        products->of[j] += z.of[j] * (backward.x.of[j] - mean.of[j]);
    }
}

#define GRADIENT_ROWS 2

KERNEL(batch_norm_gradient_sums, BatchNormGradientSums) {
    u32 relu = arguments.y != 0;
    struct Tiling tiling = tiling_of(arguments.channels);
    u64 items = (u64)arguments.blocks * tiling.tiles;
    for (u64 item = blockIdx.x; item < items; item += gridDim.x) {
        u32 block = (u32)(item / tiling.tiles), tile = (u32)(item % tiling.tiles);
        struct Place place = place_in(tiling, tile);
        struct Vector sum = zero_vector(), products = zero_vector();
        if (place.used) {
            struct Vector mean = load_floats(arguments.mean, place.vector);
            u64 row = (u64)block * tiling.lanes + place.lane;
            u64 step = (u64)arguments.blocks * tiling.lanes;
            for (; row + (GRADIENT_ROWS - 1) * step < arguments.rows; row += GRADIENT_ROWS * step) {
                struct Backward read[GRADIENT_ROWS];
                for (int k = 0; k < GRADIENT_ROWS; ++k) {
                    u64 at = (row + k * step) * tiling.vectors + place.vector;
                    read[k] = load_backward(arguments.x, arguments.y, arguments.dy, at);
                }
                for (int k = 0; k < GRADIENT_ROWS; ++k) {
                    note_gradients(read[k], relu, mean, &sum, &products);
                }
            }
            for (; row < arguments.rows; row += step) {
                u64 at = row * tiling.vectors + place.vector;
                struct Backward read = load_backward(arguments.x, arguments.y, arguments.dy, at);
                note_gradients(read, relu, mean, &sum, &products);
            }
        }
        float of_sum = sum_over_lanes(tiling, sum);
        float of_products = sum_over_lanes(tiling, products);
        if (has_sum(tiling, tile)) {
            float *to = arguments.partial + 2 * (u64)block * arguments.channels;
            to += channel_of_sum(tiling, tile);
            to[0] = of_sum;
            to[arguments.channels] = of_products;
        }
    }
}

struct BatchNormGradientFinish {
    const float *partial;
    const float *gamma;
    const float *inverse;
    element *d_gamma;
    element *d_beta;
    float *coefficients;
    u64 rows;
    u32 channels;
    u32 blocks;
    u32 accumulate;
};

DEVICE void put_element(element *to, double value, u32 accumulate) {
    if (accumulate) value += (double)to_float(*to);
    *to = from_float((float)value);
}

KERNEL(batch_norm_gradient_finish, BatchNormGradientFinish) {
    for (u32 from = blockIdx.x * FINISHED; from < arguments.channels; from += gridDim.x * FINISHED) {
        u32 channel = from + threadIdx.x % FINISHED;
        struct Sums sums =
            sum_over_blocks(arguments.partial, channel, arguments.channels, arguments.blocks);
        if (threadIdx.x >= FINISHED) continue;
        double rows = (double)arguments.rows, inverse = (double)arguments.inverse[channel];
        double factor = (double)arguments.gamma[channel] * inverse;
        put_element(arguments.d_gamma + channel, inverse * sums.second, arguments.accumulate);
        put_element(arguments.d_beta + channel, sums.first, arguments.accumulate);
        float *to = arguments.coefficients + channel;
        to[0] = (float)factor;
        to[arguments.channels] = (float)(-factor * inverse * inverse * sums.second / rows);
        to[2 * (u64)arguments.channels] = (float)(-factor * sums.first / rows);
    }
}

struct BatchNormGradientApply {
    const element *x;
    const element *y;
    const element *dy;
    const float *mean;
    const float *coefficients;
    element *dx;
    element *d_residual;
    u64 vectors;
    u32 channels;
    u32 accumulate;
    u32 accumulate_residual;
};

KERNEL(batch_norm_gradient_apply, BatchNormGradientApply) {
    u32 relu = arguments.y != 0;
    struct Tiling tiling = tiling_of(arguments.channels);
    u32 parts = parts_of_grid(tiling), items = parts * tiling.tiles;
    u64 step = (u64)parts * tiling.lanes * tiling.vectors;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        struct Place place = place_in(tiling, item % tiling.tiles);
        if (!place.used) continue;
        struct Vector mean = load_floats(arguments.mean, place.vector);
        const float *coefficients = arguments.coefficients;
        struct Vector a = load_floats(coefficients, place.vector);
        struct Vector b = load_floats(coefficients + arguments.channels, place.vector);
        struct Vector c = load_floats(coefficients + 2 * (u64)arguments.channels, place.vector);
        u64 row = (u64)(item / tiling.tiles) * tiling.lanes + place.lane;
        u64 at = row * tiling.vectors + place.vector;
        for (; at < arguments.vectors; at += APPLY_ROWS * step) {
            struct Backward read[APPLY_ROWS];
            for (int k = 0; k < APPLY_ROWS; ++k) {
                u64 from = at + k * step < arguments.vectors ? at + k * step : at;
                read[k] = load_backward(arguments.x, arguments.y, arguments.dy, from);
            }
            for (int k = 0; k < APPLY_ROWS; ++k) {
                if (at + k * step >= arguments.vectors) break;
                struct Vector z = passed_gradient(read[k], relu), dx;
                for (int j = 0; j < VECTOR; ++j) {
                    float deviation = read[k].x.of[j] - mean.of[j];
                    dx.of[j] = a.of[j] * z.of[j] + b.of[j] * deviation + c.of[j];
                }
                put_vector(arguments.dx, at + k * step, dx, arguments.accumulate);
                if (arguments.d_residual) {
                    u32 accumulate = arguments.accumulate_residual;
                    put_vector(arguments.d_residual, at + k * step, z, accumulate);
                }
            }
        }
    }
}

struct CommitStatistics {
    const float *next;
    float *running;
    u64 elements;
    const struct StepState *state;
};

KERNEL(commit_statistics, CommitStatistics) {
    if (arguments.state->skipped) return;
    for (u64 i = thread_in_grid(); i < arguments.elements; i += threads_of_grid()) {
        arguments.running[i] = arguments.next[i];
    }
}

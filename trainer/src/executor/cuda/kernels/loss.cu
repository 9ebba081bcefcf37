// Softmax and cross-entropy with label smoothing.
//
// With z the K logits, p their softmax, s the smoothing and k the label: the target is
// t = (1 - s) [i = k] + s/K, the loss -sum t ln p, its gradient p - t. With m the largest logit and
// L = ln sum exp(z - m), the loss is L - (1 - s) (z_k - m) - s mean(z - m), in which nothing large
// cancels.

// The largest value of the block, known to all threads; what is no number is left out. All must
// call it.
DEVICE float max_over_block(float value) {
    SHARED float largest[THREADS / WARP];
    for (int lane = WARP / 2; lane > 0; lane /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lane));
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) largest[threadIdx.x / WARP] = value;
    __syncthreads();
    value = largest[0];
    for (int warp = 1; warp < THREADS / WARP; ++warp) value = fmaxf(value, largest[warp]);
    return value;
}

DEVICE float largest_logit(const element *logits, u32 classes) {
    float largest = float_of_bits(0xff800000u);
    for (u32 i = threadIdx.x; i < classes; i += THREADS) {
        largest = fmaxf(largest, to_float(logits[i]));
    }
    return max_over_block(largest);
}

struct SoftmaxLoss {
    const element *logits;
    const u32 *labels;
    float *losses;
    u32 *ranks;
    u32 classes;
    u32 images;
    float smoothing;
};

// Logits that are no numbers come before all and are no hit; of equals the first counts.
KERNEL(softmax_loss, SoftmaxLoss) {
    u32 classes = arguments.classes;
    for (u64 image = blockIdx.x; image < arguments.images; image += gridDim.x) {
        const element *logits = arguments.logits + image * classes;
        u32 label = arguments.labels[image];
        float of_label = to_float(logits[label]), largest = largest_logit(logits, classes);
        float powers = 0.0f, below = 0.0f;
        u32 before = 0;
        for (u32 i = threadIdx.x; i < classes; i += THREADS) {
            float logit = to_float(logits[i]);
            powers += expf(logit - largest);
            below += logit - largest;
            before += is_nan(logit) || logit > of_label || (logit == of_label && i < label);
        }
        powers = sum_over_block(powers);
        below = sum_over_block(below);
        double rank = sum_over_block_double(before);
        if (threadIdx.x == 0) {
            float of_hit = (1.0f - arguments.smoothing) * (of_label - largest);
            float of_all = arguments.smoothing * (below / (float)classes);
            arguments.losses[image] = logf(powers) - of_hit - of_all;
            arguments.ranks[image] = is_nan(of_label) ? 0xffffffffu : (u32)rank;
        }
    }
}

struct SoftmaxGradient {
    const element *logits;
    const u32 *labels;
    element *gradient;
    const struct StepInput *input;
    const struct StepState *state;
    u32 classes;
    u32 images;
    float smoothing;
};

KERNEL(softmax_gradient, SoftmaxGradient) {
    u32 classes = arguments.classes;
    float factor = arguments.state->loss_scale * arguments.input->reciprocal_batch;
    float spread = arguments.smoothing / (float)classes;
    for (u64 image = blockIdx.x; image < arguments.images; image += gridDim.x) {
        const element *logits = arguments.logits + image * classes;
        element *gradient = arguments.gradient + image * classes;
        u32 label = arguments.labels[image];
        float largest = largest_logit(logits, classes), powers = 0.0f;
        for (u32 i = threadIdx.x; i < classes; i += THREADS) {
            powers += expf(to_float(logits[i]) - largest);
        }
        powers = sum_over_block(powers);
        for (u32 i = threadIdx.x; i < classes; i += THREADS) {
            float target = (i == label ? 1.0f - arguments.smoothing : 0.0f) + spread;
            float p = expf(to_float(logits[i]) - largest) / powers;
            gradient[i] = from_float((p - target) * factor);
        }
    }
}

struct LossTotals {
    double loss;
    u64 hits;
    u64 hits_top5;
};

struct LossSums {
    const float *losses;
    const u32 *ranks;
    struct LossTotals *sums;
    u32 images;
};

KERNEL(loss_sums, LossSums) {
    if (blockIdx.x != 0) return;
    double loss = 0.0;
    u32 hits = 0, hits_top5 = 0;
    for (u64 image = threadIdx.x; image < arguments.images; image += THREADS) {
        loss += arguments.losses[image];
        hits += arguments.ranks[image] == 0;
        hits_top5 += arguments.ranks[image] < 5;
    }
    struct LossTotals sums;
    sums.loss = sum_over_block_double(loss);
    // Whole numbers are exact in double precision.
    sums.hits = (u64)sum_over_block_double(hits);
    sums.hits_top5 = (u64)sum_over_block_double(hits_top5);
    if (threadIdx.x == 0) *arguments.sums = sums;
}

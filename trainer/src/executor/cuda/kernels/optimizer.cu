// A step of the optimizer over all tensors, and of the loss scale.
//
// What the host says of a step comes by set_step, as an argument.
//
// Three kernels: norms (a block a part of a tensor), rates (one block), update (a block a part).
// The rules are those of crate::optimizer: elements in single precision, norms and rates in double.

// As in arguments/optimizer.rs.
#define PART_ELEMENTS 16384
#define HAS_DECAY 1u
#define HAS_LOCAL_RATE 2u
#define RULE_LARS 1u

struct TensorEntry {
    float *weights;
    float *velocity;
    const void *gradient;
    element *copy;
    u64 elements;
    u32 first_part;
    u32 flags;
};

struct RuleEntry {
    double momentum;
    double weight_decay;
    double coefficient;
    double epsilon;
    u32 rule;
    u32 nesterov;
    u32 without_decay;
    u32 clip;
    u32 momentum_correction;
    u32 dynamic_scale;
    float growth_factor;
    float backoff_factor;
    u32 growth_interval;
    float scale_min;
};

// What lies before the rates of the tensors, and those of one.
struct StepRates {
    float reciprocal_scale;
    float momentum;
};
struct TensorRates {
    float rate;
    float decay;
};

// The elements that this block looks at; the first is a multiple of PART_ELEMENTS.
struct Part {
    u64 first;
    u32 elements;
};

DEVICE struct Part part_of_block(const struct TensorEntry *tensor) {
    struct Part part;
    part.first = (u64)(blockIdx.x - tensor->first_part) * PART_ELEMENTS;
    u64 rest = tensor->elements - part.first;
    part.elements = rest < PART_ELEMENTS ? (u32)rest : PART_ELEMENTS;
    return part;
}

struct SetStep {
    double learning_rate;
    u64 dropout_key;
    u64 first_image;
    struct StepInput *to;
    float reciprocal_batch;
};

KERNEL(set_step, SetStep) {
    if (thread_in_grid() != 0) return;
    arguments.to->learning_rate = arguments.learning_rate;
    arguments.to->dropout_key = arguments.dropout_key;
    arguments.to->first_image = arguments.first_image;
    arguments.to->reciprocal_batch = arguments.reciprocal_batch;
}

struct OptimizerNorms {
    const struct TensorEntry *tensors;
    const u32 *parts;
    double *partial;
    const struct StepState *state;
    u32 gradient_format;
};

// The square of a single-precision number is exact in double precision and never out of range, so
// gradients are squared as they come and the sum is divided by the scale.
KERNEL(optimizer_norms, OptimizerNorms) {
    struct TensorEntry tensor = arguments.tensors[arguments.parts[blockIdx.x]];
    struct Part part = part_of_block(&tensor);
    double weights = 0.0, gradients = 0.0;
    u32 bad = 0, vectors = part.elements / VECTOR, format = arguments.gradient_format;
    for (u32 i = threadIdx.x; i < vectors; i += THREADS) {
        struct Vector w = load_floats(tensor.weights + part.first, i);
        struct Vector g = read_vector_as(tensor.gradient, part.first + i * VECTOR, format);
        for (int j = 0; j < VECTOR; ++j) {
            weights += (double)w.of[j] * (double)w.of[j];
            gradients += (double)g.of[j] * (double)g.of[j];
            bad += !is_finite(g.of[j]);
        }
    }
    u32 rest = vectors * VECTOR + threadIdx.x;
    if (rest < part.elements) {
        double w = tensor.weights[part.first + rest];
        float g = read_as(tensor.gradient, part.first + rest, format);
        weights += w * w;
        gradients += (double)g * (double)g;
        bad += !is_finite(g);
    }
    weights = sum_over_block_double(weights);
    gradients = sum_over_block_double(gradients);
    double all_bad = sum_over_block_double(bad);
    if (threadIdx.x == 0) {
        double scale = arguments.state->loss_scale;
        double *partial = arguments.partial + 3 * (u64)blockIdx.x;
        partial[0] = weights;
        partial[1] = gradients / (scale * scale);
        partial[2] = all_bad;
    }
}

struct OptimizerRates {
    const struct TensorEntry *tensors;
    const double *partial;
    struct StepRates *rates;
    const struct StepInput *input;
    struct StepState *state;
    const struct RuleEntry *rule;
    u32 tensor_count;
};

// What multiplies g + decay w: lr or, with a local rate, lr times it or the smaller of the two.
DEVICE double tensor_rate(
    const struct RuleEntry *rule, double learning_rate, double weights, double gradients,
    double decay
) {
    double weight_norm = sqrt(weights), gradient_norm = sqrt(gradients), local_rate = 1.0;
    if (weight_norm != 0.0 && gradient_norm != 0.0) {
        double decay_norm = rule->without_decay ? 0.0 : decay * weight_norm;
        local_rate = rule->coefficient * weight_norm / (gradient_norm + decay_norm + rule->epsilon);
    }
    return rule->clip ? fmin(learning_rate, local_rate) : learning_rate * local_rate;
}

// The loss scale of the next step: crate::loss_scale says why.
DEVICE void next_loss_scale(struct StepState *state, const struct RuleEntry *rule, int overflow) {
    state->last_loss_scale = state->loss_scale;
    if (!rule->dynamic_scale) return;
    if (overflow) {
        state->loss_scale = fmaxf(state->loss_scale * rule->backoff_factor, rule->scale_min);
        state->good_steps = 0;
    } else if (state->good_steps + 1 < rule->growth_interval) {
        state->good_steps += 1;
    } else {
        float grown = state->loss_scale * rule->growth_factor;
        if (is_finite(grown)) state->loss_scale = grown;
        state->good_steps = 0;
    }
}

// A warp a tensor. Its threads add up every 32nd part each, then the first their sums in order.
KERNEL(optimizer_rates, OptimizerRates) {
    SHARED double weights_of[THREADS];
    SHARED double gradients_of[THREADS];
    if (blockIdx.x != 0) return;
    const struct RuleEntry *rule = arguments.rule;
    struct TensorRates *rates = (struct TensorRates *)(arguments.rates + 1);
    double learning_rate = arguments.input->learning_rate, bad = 0.0;
    for (u32 t = threadIdx.x / WARP; t < arguments.tensor_count; t += THREADS / WARP) {
        u64 elements = arguments.tensors[t].elements;
        u64 end = (elements + PART_ELEMENTS - 1) / PART_ELEMENTS;
        const double *partial = arguments.partial + 3 * (u64)arguments.tensors[t].first_part;
        double weights = 0.0, gradients = 0.0;
        for (u64 part = threadIdx.x % WARP; part < end; part += WARP) {
            weights += partial[3 * part];
            gradients += partial[3 * part + 1];
            bad += partial[3 * part + 2];
        }
        weights_of[threadIdx.x] = weights;
        gradients_of[threadIdx.x] = gradients;
        __syncwarp();
        if (threadIdx.x % WARP == 0) {
            for (u32 lane = 1; lane < WARP; ++lane) {
                weights += weights_of[threadIdx.x + lane];
                gradients += gradients_of[threadIdx.x + lane];
            }
            u32 flags = arguments.tensors[t].flags;
            double decay = flags & HAS_DECAY ? rule->weight_decay : 0.0;
            double rate = learning_rate;
            if (flags & HAS_LOCAL_RATE) {
                rate = tensor_rate(rule, learning_rate, weights, gradients, decay);
            }
            rates[t].rate = (float)rate;
            rates[t].decay = (float)decay;
        }
        __syncwarp();
    }
    bad = sum_over_block_double(bad);
    if (threadIdx.x != 0) return;
    struct StepState *state = arguments.state;
    double momentum = rule->momentum, last = state->last_learning_rate;
    if (rule->momentum_correction && last > 0.0) momentum *= learning_rate / last;
    arguments.rates->reciprocal_scale = 1.0f / state->loss_scale;
    arguments.rates->momentum = (float)momentum;
    int overflow = bad != 0.0;
    state->skipped = (u32)overflow;
    if (overflow) state->skipped_steps += 1;
    else state->last_learning_rate = learning_rate;
    next_loss_scale(state, rule, overflow);
}

struct OptimizerUpdate {
    const struct TensorEntry *tensors;
    const u32 *parts;
    const struct StepRates *rates;
    const struct StepState *state;
    const struct RuleEntry *rule;
    u32 gradient_format;
};

// The factors of an update: of one tensor, of one step.
struct Factors {
    u32 lars;
    u32 nesterov;
    float reciprocal_scale;
    float momentum;
    float rate;
    float decay;
};

DEVICE void update_element(const struct Factors *factors, float *w, float *v, float g) {
    float d = g * factors->reciprocal_scale + factors->decay * *w;
    if (factors->lars) {
        *v = factors->momentum * *v + factors->rate * d;
        *w -= *v;
    } else {
        *v = factors->momentum * *v + d;
        *w -= factors->rate * (factors->nesterov ? d + factors->momentum * *v : *v);
    }
}

KERNEL(optimizer_update, OptimizerUpdate) {
    if (arguments.state->skipped) return;
    u32 t = arguments.parts[blockIdx.x];
    struct TensorEntry tensor = arguments.tensors[t];
    struct Part part = part_of_block(&tensor);
    struct TensorRates rates = ((const struct TensorRates *)(arguments.rates + 1))[t];
    struct Factors factors;
    factors.lars = arguments.rule->rule == RULE_LARS;
    factors.nesterov = arguments.rule->nesterov;
    factors.reciprocal_scale = arguments.rates->reciprocal_scale;
    factors.momentum = arguments.rates->momentum;
    factors.rate = rates.rate;
    factors.decay = rates.decay;
    float *weights = tensor.weights + part.first, *velocity = tensor.velocity + part.first;
    element *copy = tensor.copy ? tensor.copy + part.first : tensor.copy;
    u32 vectors = part.elements / VECTOR, format = arguments.gradient_format;
    for (u32 i = threadIdx.x; i < vectors; i += THREADS) {
        struct Vector w = load_floats(weights, i), v = load_floats(velocity, i);
        struct Vector g = read_vector_as(tensor.gradient, part.first + i * VECTOR, format);
        for (int j = 0; j < VECTOR; ++j) update_element(&factors, &w.of[j], &v.of[j], g.of[j]);
        store_floats(weights, i, w);
        store_floats(velocity, i, v);
        if (copy) store_vector(copy, i, w);
    }
    u32 rest = vectors * VECTOR + threadIdx.x;
    if (rest < part.elements) {
        float w = weights[rest], v = velocity[rest];
        float g = read_as(tensor.gradient, part.first + rest, format);
        update_element(&factors, &w, &v, g);
        weights[rest] = w;
        velocity[rest] = v;
        if (copy) copy[rest] = from_float(w);
    }
}

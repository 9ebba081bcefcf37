// What looks at one element at a time.

struct Relu {
    const element *x;
    element *y;
    u64 vectors;
};

// y = max(x, 0); what is no number stays none, so that it is seen in the loss.
KERNEL(relu, Relu) {
    for (u64 i = thread_in_grid(); i < arguments.vectors; i += threads_of_grid()) {
        struct Vector x = load_vector(arguments.x, i);
        for (int j = 0; j < VECTOR; ++j) x.of[j] = x.of[j] <= 0.0f ? 0.0f : x.of[j];
        store_vector(arguments.y, i, x);
    }
}

struct ReluBackward {
    const element *y;
    const element *dy;
    element *dx;
    u64 vectors;
    u32 accumulate;
};

// dx = dy where y is not 0: what is no number passes, as forward.
KERNEL(relu_backward, ReluBackward) {
    for (u64 i = thread_in_grid(); i < arguments.vectors; i += threads_of_grid()) {
        struct Vector y = load_vector(arguments.y, i);
        struct Vector dy = load_vector(arguments.dy, i);
        for (int j = 0; j < VECTOR; ++j) dy.of[j] = y.of[j] <= 0.0f ? 0.0f : dy.of[j];
        put_vector(arguments.dx, i, dy, arguments.accumulate);
    }
}

DEVICE float read_as(const void *from, u64 index, u32 format) {
    if (format == FORMAT_F16) return f16_to_float(((const u16 *)from)[index]);
    if (format == FORMAT_BF16) return bf16_to_float(((const u16 *)from)[index]);
    return ((const float *)from)[index];
}

DEVICE void write_as(void *to, u64 index, u32 format, float value) {
    if (format == FORMAT_F16) ((u16 *)to)[index] = float_to_f16(value);
    else if (format == FORMAT_BF16) ((u16 *)to)[index] = float_to_bf16(value);
    else ((float *)to)[index] = value;
}

struct Cast {
    const void *from;
    void *to;
    u64 elements;
    u32 from_format;
    u32 to_format;
};

// Rounds numbers from one format to another.
KERNEL(cast, Cast) {
    for (u64 i = thread_in_grid(); i < arguments.elements; i += threads_of_grid()) {
        write_as(arguments.to, i, arguments.to_format, read_as(arguments.from, i, arguments.from_format));
    }
}

// SplitMix64's draw number `place` with the seed `key`: sim/src/random.rs says where it is from.
DEVICE u64 place_bits(u64 key, u64 place) {
    u64 bits = key + (place + 1) * 0x9e3779b97f4a7c15ull;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9ull;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebull;
    return bits ^ bits >> 31;
}

// The same as a number in [0, 1), exact: 53 bits over 2^53.
DEVICE double place_uniform(u64 key, u64 place) {
    return (double)(place_bits(key, place) >> 11) / 9007199254740992.0;
}

struct Dropout {
    const element *from;
    element *to;
    u64 vectors;
    const struct StepInput *input;
    u64 instruction;
    u64 elements_per_image;
    double rate;
    u32 accumulate;
};

// Kept elements, divided by the part that is kept. Which are kept depends on their place in the
// global batch, so that backward need not remember.
KERNEL(dropout, Dropout) {
    u64 key = place_bits(arguments.input->dropout_key, arguments.instruction);
    u64 first = arguments.input->first_image * arguments.elements_per_image;
    float scale = (float)(1.0 / (1.0 - arguments.rate));
    for (u64 i = thread_in_grid(); i < arguments.vectors; i += threads_of_grid()) {
        struct Vector values = load_vector(arguments.from, i);
        for (u32 j = 0; j < VECTOR; ++j) {
            double draw = place_uniform(key, first + i * VECTOR + j);
            values.of[j] *= draw < arguments.rate ? 0.0f : scale;
        }
        put_vector(arguments.to, i, values, arguments.accumulate);
    }
}

// Eight elements of any format from element `first` on, aligned to their own size only.
DEVICE struct Vector read_vector_as(const void *from, u64 first, u32 format) {
    struct Vector vector;
    if (format == FORMAT_F32) {
        const float *at = (const float *)from + first;
        if ((u64)at % 16 == 0) return load_floats(at, 0);
        for (int i = 0; i < VECTOR; ++i) vector.of[i] = at[i];
        return vector;
    }
    const u16 *at = (const u16 *)from + first;
    u16 bits[VECTOR];
    if ((u64)at % 16 == 0) {
        struct Words4 words = *(const struct Words4 *)at;
        for (int i = 0; i < 4; ++i) {
            bits[2 * i] = (u16)(words.words[i] & 0xffffu);
            bits[2 * i + 1] = (u16)(words.words[i] >> 16);
        }
    } else {
        for (int i = 0; i < VECTOR; ++i) bits[i] = at[i];
    }
    for (int i = 0; i < VECTOR; ++i) {
        vector.of[i] = format == FORMAT_F16 ? f16_to_float(bits[i]) : bf16_to_float(bits[i]);
    }
    return vector;
}

struct SquareSums {
    const void *from;
    u64 elements;
    double *partial;
    u32 format;
};

// The square of a single-precision number is exact in double precision, and never out of range.
KERNEL(square_sums, SquareSums) {
    double sum = 0.0;
    u64 vectors = arguments.elements / VECTOR;
    for (u64 i = thread_in_grid(); i < vectors; i += threads_of_grid()) {
        struct Vector x = read_vector_as(arguments.from, i * VECTOR, arguments.format);
        for (int j = 0; j < VECTOR; ++j) sum += (double)x.of[j] * (double)x.of[j];
    }
    u64 rest = vectors * VECTOR + thread_in_grid();
    if (rest < arguments.elements) {
        double x = read_as(arguments.from, rest, arguments.format);
        sum += x * x;
    }
    sum = sum_over_block_double(sum);
    if (threadIdx.x == 0) arguments.partial[blockIdx.x] = sum;
}

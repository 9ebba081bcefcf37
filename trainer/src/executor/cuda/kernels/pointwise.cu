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

// dx = dy where y > 0.
KERNEL(relu_backward, ReluBackward) {
    for (u64 i = thread_in_grid(); i < arguments.vectors; i += threads_of_grid()) {
        struct Vector y = load_vector(arguments.y, i);
        struct Vector dy = load_vector(arguments.dy, i);
        for (int j = 0; j < VECTOR; ++j) dy.of[j] = y.of[j] > 0.0f ? dy.of[j] : 0.0f;
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

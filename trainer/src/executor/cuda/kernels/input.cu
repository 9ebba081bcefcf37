// Images and filters on their way in: channels are filled up with zeros to a multiple of four.

// Stores four elements that lie together, at a multiple of four.
DEVICE void store_quad(element *to, u64 index, const float *of) {
#if ELEMENT == FORMAT_F32
    struct Words4 words;
    for (int i = 0; i < 4; ++i) words.words[i] = bits_of_float(of[i]);
    ((struct Words4 *)to)[index] = words;
#else
    u64 words = 0;
    for (int i = 0; i < 4; ++i) words |= (u64)from_float(of[i]) << 16 * i;
    ((u64 *)to)[index] = words;
#endif
}

// Rounds rows of `channels` into rows of `padded`, with zeros for what is missing.
DEVICE void pad_rows(const float *from, element *to, u64 rows, u32 channels, u32 padded) {
    u32 quads = padded / 4;
    for (u64 i = thread_in_grid(); i < rows * quads; i += threads_of_grid()) {
        u64 row = i / quads;
        u32 first = (u32)(i % quads) * 4;
        float of[4];
        for (u32 j = 0; j < 4; ++j) {
            of[j] = first + j < channels ? from[row * channels + first + j] : 0.0f;
        }
        store_quad(to, i, of);
    }
}

struct TakeImages {
    const float *from;
    element *to;
    u64 pixels;
    u32 channels;
    u32 padded;
};

KERNEL(take_images, TakeImages) {
    pad_rows(arguments.from, arguments.to, arguments.pixels, arguments.channels, arguments.padded);
}

struct PadFilters {
    const float *from;
    element *to;
    u64 rows;
    u32 channels;
    u32 padded;
};

KERNEL(pad_filters, PadFilters) {
    pad_rows(arguments.from, arguments.to, arguments.rows, arguments.channels, arguments.padded);
}

struct NormaliseImages {
    const u8 *from;
    element *to;
    u64 pixels;
    u32 channels;
    u32 padded;
    float factor_0;
    float factor_1;
    float factor_2;
    float factor_3;
    float offset_0;
    float offset_1;
    float offset_2;
    float offset_3;
};

KERNEL(normalise_images, NormaliseImages) {
    const float factors[4] = {
        arguments.factor_0, arguments.factor_1, arguments.factor_2, arguments.factor_3
    };
    const float offsets[4] = {
        arguments.offset_0, arguments.offset_1, arguments.offset_2, arguments.offset_3
    };
    u32 channels = arguments.channels, quads = arguments.padded / 4;
    for (u64 i = thread_in_grid(); i < arguments.pixels * quads; i += threads_of_grid()) {
        // The first four channels in memory have all that images have.
        const u8 *pixel = arguments.from + i / quads * channels;
        u32 present = i % quads == 0 ? channels : 0;
        float of[4];
        for (u32 j = 0; j < 4; ++j) {
            of[j] = j < present ? (float)pixel[j] * factors[j] + offsets[j] : 0.0f;
        }
        store_quad(arguments.to, i, of);
    }
}

struct UnpadFilters {
    const element *from;
    element *to;
    u64 rows;
    u32 channels;
    u32 padded;
};

KERNEL(unpad_filters, UnpadFilters) {
    u64 elements = arguments.rows * arguments.channels;
    for (u64 i = thread_in_grid(); i < elements; i += threads_of_grid()) {
        u64 row = i / arguments.channels, channel = i % arguments.channels;
        arguments.to[i] = arguments.from[row * arguments.padded + channel];
    }
}

// What all kernels share: how a kernel is declared, the element's format, vectors of eight elements,
// sums over a block.
//
// Kernels are C, so that the same text is compiled for GPUs (by NVRTC) and, for tests, for this
// machine (by its C compiler, with emulator/host.h in the place of the GPU). The rules that follow
// from that:
//
// - a kernel has one argument, a structure whose twin in Rust is in arguments.rs;
// - all blocks have THREADS threads;
// - a loop over all of a grid's work strides by the grid, so any grid gives the same result;
// - sums are in an order that depends on sizes only: no atomic addition of floating-point numbers.

#define THREADS 256
#define WARP 32

#define FORMAT_F16 1
#define FORMAT_BF16 2
#define FORMAT_F32 3

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef FORETRAIN_HOST
#include "host.h"
#else
#define KERNEL(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const struct Arguments arguments)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
DEVICE float float_of_bits(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 bits_of_float(float value) { return __float_as_uint(value); }
DEVICE float f16_to_float(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
DEVICE u16 float_to_f16(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
struct __align__(16) Words4 { u32 words[4]; };
#endif

// The upper half of single precision, rounded to the nearest, ties to even; NaN stays NaN.
DEVICE float bf16_to_float(u16 bits) { return float_of_bits((u32)bits << 16); }
DEVICE u16 float_to_bf16(float value) {
    u32 bits = bits_of_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if ELEMENT == FORMAT_F16
typedef u16 element;
DEVICE float to_float(element value) { return f16_to_float(value); }
DEVICE element from_float(float value) { return float_to_f16(value); }
#elif ELEMENT == FORMAT_BF16
typedef u16 element;
DEVICE float to_float(element value) { return bf16_to_float(value); }
DEVICE element from_float(float value) { return float_to_bf16(value); }
#elif ELEMENT == FORMAT_F32
typedef float element;
DEVICE float to_float(element value) { return value; }
DEVICE element from_float(float value) { return value; }
#else
#error "ELEMENT must be FORMAT_F16, FORMAT_BF16 or FORMAT_F32"
#endif

// Eight elements that lie together: 16 bytes in half precision, 32 in single.
#define VECTOR 8
struct Vector { float of[VECTOR]; };

// Reads and writes vector `index` of single-precision numbers that are 16-byte aligned.
DEVICE struct Vector load_floats(const float *from, u64 index) {
    struct Words4 low = ((const struct Words4 *)from)[2 * index];
    struct Words4 high = ((const struct Words4 *)from)[2 * index + 1];
    struct Vector vector;
    for (int i = 0; i < 4; ++i) {
        vector.of[i] = float_of_bits(low.words[i]);
        vector.of[4 + i] = float_of_bits(high.words[i]);
    }
    return vector;
}

DEVICE void store_floats(float *to, u64 index, struct Vector vector) {
    struct Words4 low, high;
    for (int i = 0; i < 4; ++i) {
        low.words[i] = bits_of_float(vector.of[i]);
        high.words[i] = bits_of_float(vector.of[4 + i]);
    }
    ((struct Words4 *)to)[2 * index] = low;
    ((struct Words4 *)to)[2 * index + 1] = high;
}

// Reads and writes vector `index` of elements that are 16-byte aligned.
DEVICE struct Vector load_vector(const element *from, u64 index) {
#if ELEMENT == FORMAT_F32
    return load_floats(from, index);
#else
    struct Words4 words = ((const struct Words4 *)from)[index];
    struct Vector vector;
    for (int i = 0; i < 4; ++i) {
        vector.of[2 * i] = to_float((u16)(words.words[i] & 0xffffu));
        vector.of[2 * i + 1] = to_float((u16)(words.words[i] >> 16));
    }
    return vector;
#endif
}

DEVICE void store_vector(element *to, u64 index, struct Vector vector) {
#if ELEMENT == FORMAT_F32
    store_floats(to, index, vector);
#else
    struct Words4 words;
    for (int i = 0; i < 4; ++i) {
        u32 low = from_float(vector.of[2 * i]), high = from_float(vector.of[2 * i + 1]);
        words.words[i] = low | high << 16;
    }
    ((struct Words4 *)to)[index] = words;
#endif
}

// Stores a vector, or adds it to what is there; the sum is rounded once.
DEVICE void put_vector(element *to, u64 index, struct Vector vector, u32 accumulate) {
    if (accumulate) {
        struct Vector there = load_vector(to, index);
        for (int i = 0; i < VECTOR; ++i) vector.of[i] += there.of[i];
    }
    store_vector(to, index, vector);
}

// This thread's number in the grid, and how many there are.
DEVICE u64 thread_in_grid(void) { return (u64)blockIdx.x * THREADS + threadIdx.x; }
DEVICE u64 threads_of_grid(void) { return (u64)gridDim.x * THREADS; }

// The sum over all threads of the block, known to all of them; all must call it.
DEVICE float sum_over_block(float value) {
    SHARED float sums[THREADS / WARP];
    for (int lane = WARP / 2; lane > 0; lane /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, lane);
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < THREADS / WARP; ++warp) sum += sums[warp];
    return sum;
}

// The same in double precision, with few barriers.
DEVICE double sum_over_block_double(double value) {
    SHARED double values[THREADS];
    SHARED double sums[THREADS / 16];
    __syncthreads();
    values[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < THREADS / 16) {
        double sum = 0.0;
        for (u32 i = threadIdx.x; i < THREADS; i += THREADS / 16) sum += values[i];
        sums[threadIdx.x] = sum;
    }
    __syncthreads();
    double sum = 0.0;
    for (u32 i = 0; i < THREADS / 16; ++i) sum += sums[i];
    return sum;
}

// What is known by its bits, whatever a compiler may assume of numbers.
DEVICE int is_nan(float value) { return (bits_of_float(value) & 0x7fffffffu) > 0x7f800000u; }
DEVICE int is_finite(float value) { return (bits_of_float(value) & 0x7f800000u) != 0x7f800000u; }

// What the host says before each step; its twin in Rust has the comments.
struct StepInput {
    double learning_rate;
    u64 dropout_key;
    u64 first_image;
    float reciprocal_batch;
};

// What a step leaves to the next; its twin in Rust has the comments.
struct StepState {
    double last_learning_rate;
    u64 skipped_steps;
    float loss_scale;
    u32 good_steps;
    u32 skipped;
    float last_loss_scale;
};

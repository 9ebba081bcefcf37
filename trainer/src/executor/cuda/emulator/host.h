// A GPU for tests: runs the threads of a block as coroutines, one after the other, on this machine.
//
// Barriers and shuffles are where a thread waits; a block goes on when all its threads wait at the
// same kind of barrier. A kernel in which they never do is a bug, which ends the process.

#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define DEVICE static inline
// Blocks run one after the other, so one copy is enough; tests on several threads have their own.
#define SHARED static _Thread_local

struct Index3 { u32 x, y, z; };
static _Thread_local struct Index3 threadIdx, blockIdx, gridDim;

struct __attribute__((aligned(16))) Words4 { u32 words[4]; };

DEVICE float float_of_bits(u32 bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
DEVICE u32 bits_of_float(float value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}

// IEEE half precision: 1 sign, 5 exponent, 10 fraction bits.
DEVICE float f16_to_float(u16 bits) {
    u32 sign = (u32)(bits >> 15) << 31, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) {
        float value = ldexpf((float)fraction, -24);
        return sign ? -value : value;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}
DEVICE u16 float_to_f16(float value) {
    u32 bits = bits_of_float(value), sign = bits >> 16 & 0x8000u;
    float size = fabsf(value);
    if (isnan(value)) return (u16)(0x7fffu);
    if (size >= 65520.0f) return (u16)(sign | 0x7c00u);
    if (size < 6.103515625e-05f) return (u16)(sign | (u32)lrintf(ldexpf(size, 24)));
    u32 rest = bits & 0x7fffffffu;
    return (u16)(sign | (((rest + 0xfffu + (rest >> 13 & 1u)) >> 13) - (112u << 10)));
}

enum Wait { RUNNING, AT_WARP, AT_BLOCK, DONE };

struct Lane {
    ucontext_t context;
    enum Wait wait;
    u32 exchanged;
    char *stack;
};

static _Thread_local struct Lane lanes[THREADS];
static _Thread_local ucontext_t scheduler;
static _Thread_local void (*kernel_body)(const void *);
static _Thread_local const void *kernel_arguments;

static inline void wait_at(enum Wait wait) {
    u32 self = threadIdx.x;
    lanes[self].wait = wait;
    swapcontext(&lanes[self].context, &scheduler);
    threadIdx.x = self;
}

static inline void __syncthreads(void) { wait_at(AT_BLOCK); }
static inline void __syncwarp(void) { wait_at(AT_WARP); }

static inline u32 shuffle_bits(u32 bits, u32 from) {
    u32 self = threadIdx.x;
    lanes[self].exchanged = bits;
    wait_at(AT_WARP);
    u32 got = lanes[self / WARP * WARP + from % WARP].exchanged;
    wait_at(AT_WARP);
    return got;
}
static inline float __shfl_xor_sync(u32 mask, float value, int lane) {
    (void)mask;
    return float_of_bits(shuffle_bits(bits_of_float(value), threadIdx.x % WARP ^ (u32)lane));
}
static void lane_main(void) {
    u32 self = threadIdx.x;
    kernel_body(kernel_arguments);
    threadIdx.x = self;
    lanes[self].wait = DONE;
    swapcontext(&lanes[self].context, &scheduler);
}

// Whether all of `count` lanes from `first` wait there or are done, and one waits.
static inline int all_at(u32 first, u32 count, enum Wait wait) {
    int any = 0;
    for (u32 lane = first; lane < first + count; ++lane) {
        if (lanes[lane].wait == wait) any = 1;
        else if (lanes[lane].wait != DONE) return 0;
    }
    return any;
}

static void run_block(void) {
    const size_t stack_bytes = 64 << 10;
    for (u32 lane = 0; lane < THREADS; ++lane) {
        if (!lanes[lane].stack) lanes[lane].stack = malloc(stack_bytes);
        getcontext(&lanes[lane].context);
        lanes[lane].context.uc_stack.ss_sp = lanes[lane].stack;
        lanes[lane].context.uc_stack.ss_size = stack_bytes;
        lanes[lane].context.uc_link = &scheduler;
        lanes[lane].wait = RUNNING;
        makecontext(&lanes[lane].context, lane_main, 0);
    }
    for (;;) {
        int ran = 0;
        for (u32 lane = 0; lane < THREADS; ++lane) {
            if (lanes[lane].wait != RUNNING) continue;
            ran = 1;
            threadIdx.x = lane;
            swapcontext(&scheduler, &lanes[lane].context);
        }
        int released = 0;
        for (u32 warp = 0; warp < THREADS; warp += WARP) {
            if (!all_at(warp, WARP, AT_WARP)) continue;
            released = 1;
            for (u32 lane = warp; lane < warp + WARP; ++lane) {
                if (lanes[lane].wait == AT_WARP) lanes[lane].wait = RUNNING;
            }
        }
        if (!released && all_at(0, THREADS, AT_BLOCK)) {
            released = 1;
            for (u32 lane = 0; lane < THREADS; ++lane) {
                if (lanes[lane].wait == AT_BLOCK) lanes[lane].wait = RUNNING;
            }
        }
        if (!released) {
            if (all_at(0, THREADS, DONE)) return;
            if (!ran) {
                fprintf(stderr, "the threads of a block wait at different barriers\n");
                abort();
            }
        }
    }
}

static void run_grid(void (*body)(const void *), const void *arguments, u32 grid) {
    kernel_body = body;
    kernel_arguments = arguments;
    gridDim.x = grid;
    gridDim.y = gridDim.z = 1;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) run_block();
}

// Two symbols a kernel: `NAME`, which runs it, and `NAME_argument_bytes`.
#define KERNEL(name, Arguments)                                                      \
    static void name##_body(const struct Arguments arguments);                       \
    static void name##_lane(const void *raw) {                                       \
        name##_body(*(const struct Arguments *)raw);                                 \
    }                                                                                \
    void name(const void *arguments, u32 grid) {                                     \
        run_grid(name##_lane, arguments, grid);                                      \
    }                                                                                \
    u64 name##_argument_bytes(void) { return sizeof(struct Arguments); }             \
    static void name##_body(const struct Arguments arguments)

/* The kernels for AVX-512: 32 registers of 16 floats; 28 of them hold a tile of 14 x 32. */
#include "kernels.h"

#if defined(__x86_64__)

static int supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#define VECTOR 16
#define ROWS 14
#define COLUMNS 2
#include "variant.h"

const struct variant variant_avx512 = {.name = "avx512", .supported = supported, KERNELS};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
static int supported(void) { return 0; }
const struct variant variant_avx512 = {.name = "avx512", .supported = supported};
#endif

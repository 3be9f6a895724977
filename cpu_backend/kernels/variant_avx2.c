/* The kernels for AVX2 with FMA: 16 registers of 8 floats; 12 of them hold a tile of 6 x 16. */
#include "kernels.h"

#if defined(__x86_64__)

static int supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define VECTOR 8
#define ROWS 6
#define COLUMNS 2
#include "variant.h"

const struct variant variant_avx2 = {.name = "avx2", .supported = supported, KERNELS};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
static int supported(void) { return 0; }
const struct variant variant_avx2 = {.name = "avx2", .supported = supported};
#endif

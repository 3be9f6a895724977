/* The kernels for AVX-512 that also multiplies bfloat16 (Zen 4, Cooper Lake and later). */
#include "kernels.h"

#if defined(__x86_64__)

static int supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif

#define VECTOR 16
#define ROWS 14
#define COLUMNS 2
#define HAS_BF16 1
#define HAS_VNNI 1
#include "variant.h"

const struct variant variant_avx512_bf16 = {.name = "avx512_bf16", .supported = supported, KERNELS};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
static int supported(void) { return 0; }
const struct variant variant_avx512_bf16 = {.name = "avx512_bf16", .supported = supported};
#endif

/* The kernels for AVX-512 with tiles of AMX (Sapphire Rapids and later), where the kernel of the
 * operating system grants them to this process. */
#define _GNU_SOURCE
#include "kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Leaf 7: AMX-BF16 is bit 22, AMX-TILE bit 24, AMX-INT8 bit 25 of edx. Then Linux is asked for the tiles' state. */
static int supported(void) {
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bf16") || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if ((d >> 22 & 0xd) != 0xd) return 0;
    return !syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */);
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,amx-tile,amx-bf16,amx-int8,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,amx-tile,amx-bf16,amx-int8,avx2,fma,prefer-vector-width=512")
#endif

#define VECTOR 16
#define ROWS 14
#define COLUMNS 2
#define HAS_BF16 1
#define HAS_VNNI 1
#define HAS_AMX 1
#include "variant.h"

const struct variant variant_amx = {.name = "amx", .supported = supported, KERNELS};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
static int supported(void) { return 0; }
const struct variant variant_amx = {.name = "amx", .supported = supported};
#endif

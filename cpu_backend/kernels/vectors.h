/* Vectors of one width, and the functions of real numbers that the kernels need.
 *
 * Included by each variant_*.c, which says how wide a vector is (VECTOR floats) and which
 * instructions may be used. Nearly all is the compiler's own vector arithmetic, so that it means
 * the same everywhere; intrinsics stand only where the compiler has no operator for them.
 */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * VECTOR)));
typedef int32_t ivec __attribute__((vector_size(4 * VECTOR)));
typedef float loose_vec __attribute__((vector_size(4 * VECTOR), aligned(4), may_alias));

INLINE vec load(const float *from) { return *(const loose_vec *)from; }
INLINE void store(float *to, vec x) { *(loose_vec *)to = x; }
INLINE vec splat(float x) { return x - (vec){0}; }

/* Up to VECTOR of the `left` floats that are left of a row, and zeros. */
INLINE vec load_part(const float *from, int left) {
    vec x = {0};
    if (left >= VECTOR) return load(from);
    memcpy(&x, from, sizeof(float) * (size_t)left);
    return x;
}

INLINE void store_part(float *to, vec x, int left) {
    if (left >= VECTOR) store(to, x);
    else memcpy(to, &x, sizeof(float) * (size_t)left);
}

/* `other` in place of what is past the first lanes. */
INLINE vec first_of(vec x, int count, float other) {
    static const int32_t ones[2 * 16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                         -1, -1, -1, -1, -1, -1, -1, -1};
    ivec kept;
    memcpy(&kept, ones + 16 - count, sizeof kept);
    return (vec)(((ivec)x & kept) | ((ivec)splat(other) & ~kept));
}

INLINE vec maximum(vec a, vec b) {
#if defined(__x86_64__) && VECTOR == 16
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__x86_64__) && VECTOR == 8
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__) && VECTOR == 4
    return (vec)_mm_max_ps((__m128)a, (__m128)b);
#elif defined(__aarch64__) && VECTOR == 4
    return (vec)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#else
    ivec more = a > b;
    return (vec)((more & (ivec)a) | (~more & (ivec)b));
#endif
}

INLINE vec minimum(vec a, vec b) {
#if defined(__x86_64__) && VECTOR == 16
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__x86_64__) && VECTOR == 8
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return -maximum(-a, -b);
#endif
}

INLINE vec reciprocal(vec x) {
#if defined(__x86_64__) && VECTOR == 16
    vec y = (vec)_mm512_rcp14_ps((__m512)x); /* and a step of Newton's: 28 bits */
    return y + y * (1.0f - x * y);
#else
    return 1.0f / x;
#endif
}

/* The lanes from `first` on, then those before it. */
#if VECTOR == 16
#define TURNED(x, first)                                                                           \
    __builtin_shufflevector(x, x, (first), (first) + 1, (first) + 2, (first) + 3, (first) + 4,     \
                            (first) + 5, (first) + 6, (first) + 7, (first) + 8, (first) + 9,       \
                            (first) + 10, (first) + 11, (first) + 12, (first) + 13, (first) + 14,  \
                            (first) + 15)
#elif VECTOR == 8
#define TURNED(x, first)                                                                         \
    __builtin_shufflevector(x, x, (first), (first) + 1, (first) + 2, (first) + 3, (first) + 4,   \
                            (first) + 5, (first) + 6, (first) + 7)
#else
#define TURNED(x, first) \
    __builtin_shufflevector(x, x, (first), (first) + 1, (first) + 2, (first) + 3)
#endif

/* Lanes are added in one order, halves first, so that a sum does not depend on the compiler. */
INLINE float sum(vec x) {
#if VECTOR == 16
    x += TURNED(x, 8);
#endif
#if VECTOR >= 8
    x += TURNED(x, 4);
#endif
    x += TURNED(x, 2);
    x += TURNED(x, 1);
    return x[0];
}

INLINE float largest(vec x) {
#if VECTOR == 16
    x = maximum(x, TURNED(x, 8));
#endif
#if VECTOR >= 8
    x = maximum(x, TURNED(x, 4));
#endif
    x = maximum(x, TURNED(x, 2));
    x = maximum(x, TURNED(x, 1));
    return x[0];
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2 (Cephes' polynomial, error 2e-7 relative), x in [-87, 87].
 * Adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits. */
INLINE vec exponential(vec x) {
    x = minimum(maximum(x, splat(-87.0f)), splat(87.0f));
    vec shifted = x * 1.44269504f + 12582912.0f;
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (vec)((ivec)p + ((ivec)shifted << 23));
}

/* x Phi(x), erf as in udfs/operators.py: z P(z^2) / Q(z^2) on [-4, 4]. */
INLINE vec gelu(vec x) {
    vec z = minimum(maximum(x * 0.70710678f, splat(-4.0f)), splat(4.0f));
    vec t = z * z;
    vec p = t * 1.97482814e-6f + 2.8804221e-4f;
    p = p * t + 4.003670997e-3f;
    p = p * t + 0.0534675531f;
    p = p * t + 0.19624952972f;
    p = p * t + 1.1283789873f;
    vec q = t * 3.74808842e-5f + 1.216366421e-3f;
    q = q * t + 0.01544447047f;
    q = q * t + 0.116476655f;
    q = q * t + 0.50725275278f;
    q = q * t + 1.0f;
    vec erf = z * p * reciprocal(q);
    erf = minimum(maximum(erf, splat(-1.0f)), splat(1.0f));
    return x * (0.5f + 0.5f * erf);
}

/* The same to 2e-4: Phi(x) = 1/2 + x P(x^2) on [-4, 4], where P(16) = 1/8. */
INLINE vec gelu_near(vec x) {
    vec z = minimum(maximum(x, splat(-4.0f)), splat(4.0f));
    vec t = z * z;
    vec p = t * 2.2588126e-8f - 1.5888226e-6f;
    p = p * t + 4.7763791e-5f;
    p = p * t - 8.1218650e-4f;
    p = p * t + 8.7636862e-3f;
    p = p * t - 6.4554403e-2f;
    p = p * t + 3.9787027e-1f;
    return x * (0.5f + z * p);
}

/* x (1 + tanh(inner)) / 2 = x / (1 + e^(-2 inner)). */
INLINE vec gelu_tanh(vec x) {
    vec inner = 0.79788456f * (x + 0.044715f * x * x * x);
    return x * reciprocal(1.0f + exponential(-2.0f * inner));
}

/* x / (1 + e^-x) */
INLINE vec silu(vec x) { return x * reciprocal(1.0f + exponential(-x)); }

INLINE vec relu(vec x) { return maximum((vec){0}, x); } /* in this order a NaN stays one */

// Element types that are stored in 16 or 32 bits and computed in 32. Needs no header, so that any
// runtime compiler takes it.

struct half16 { unsigned short bits; };
struct bfloat16 { unsigned short bits; };

#ifdef __CUDACC__
__device__ inline float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ inline unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(half16 value) { return half_to_float(value.bits); }
__device__ inline float widen(bfloat16 value) {
    return __uint_as_float((unsigned)value.bits << 16);
}

__device__ inline void store(float* to, float value) { *to = value; }
__device__ inline void store(half16* to, float value) { to->bits = float_to_half(value); }

// Round to the nearest, ties to even; what is not a number stays none.
__device__ inline void store(bfloat16* to, float value) {
    const unsigned bits = __float_as_uint(value);
    const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to->bits = (unsigned short)(value == value ? rounded : 0x7fc0u);
}

__device__ inline float lowest() { return __uint_as_float(0xff800000u); }

/* The shortest decimal that reads back as the same float32: the text of a vector's element.
 *
 * Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles", 2021), for float32. The
 * interval that rounds to x is scaled by a power of ten, so that whole numbers in it are candidates.
 */
#include "decimal.h"

#include <string.h>

/* ceil(10^k 2^(63 - floor(log2 10^k))) for k from -31 to 45. */
static const uint64_t powers_of_ten[] = {
    0x81ceb32c4b43fcf5, 0xa2425ff75e14fc32, 0xcad2f7f5359a3b3f, 0xfd87b5f28300ca0e,
    0x9e74d1b791e07e49, 0xc612062576589ddb, 0xf79687aed3eec552, 0x9abe14cd44753b53,
    0xc16d9a0095928a28, 0xf1c90080baf72cb2, 0x971da05074da7bef, 0xbce5086492111aeb,
    0xec1e4a7db69561a6, 0x9392ee8e921d5d08, 0xb877aa3236a4b44a, 0xe69594bec44de15c,
    0x901d7cf73ab0acda, 0xb424dc35095cd810, 0xe12e13424bb40e14, 0x8cbccc096f5088cc,
    0xafebff0bcb24aaff, 0xdbe6fecebdedd5bf, 0x89705f4136b4a598, 0xabcc77118461cefd,
    0xd6bf94d5e57a42bd, 0x8637bd05af6c69b6, 0xa7c5ac471b478424, 0xd1b71758e219652c,
    0x83126e978d4fdf3c, 0xa3d70a3d70a3d70b, 0xcccccccccccccccd, 0x8000000000000000,
    0xa000000000000000, 0xc800000000000000, 0xfa00000000000000, 0x9c40000000000000,
    0xc350000000000000, 0xf424000000000000, 0x9896800000000000, 0xbebc200000000000,
    0xee6b280000000000, 0x9502f90000000000, 0xba43b74000000000, 0xe8d4a51000000000,
    0x9184e72a00000000, 0xb5e620f480000000, 0xe35fa931a0000000, 0x8e1bc9bf04000000,
    0xb1a2bc2ec5000000, 0xde0b6b3a76400000, 0x8ac7230489e80000, 0xad78ebc5ac620000,
    0xd8d726b7177a8000, 0x878678326eac9000, 0xa968163f0a57b400, 0xd3c21bcecceda100,
    0x84595161401484a0, 0xa56fa5b99019a5c8, 0xcecb8f27f4200f3a, 0x813f3978f8940985,
    0xa18f07d736b90be6, 0xc9f2c9cd04674edf, 0xfc6f7c4045812297, 0x9dc5ada82b70b59e,
    0xc5371912364ce306, 0xf684df56c3e01bc7, 0x9a130b963a6c115d, 0xc097ce7bc90715b4,
    0xf0bdc21abb48db21, 0x96769950b50d88f5, 0xbc143fa4e250eb32, 0xeb194f8e1ae525fe,
    0x92efd1b8d0cf37bf, 0xb7abc627050305ae, 0xe596b7b0c643c71a, 0x8f7e32ce7bea5c70,
    0xb35dbf821ae4f38c,
};

struct decimal {
    uint32_t digits;
    int exponent;
};

/* The high part of power * x, its last bit set when anything was lost: enough to compare with. */
static uint32_t scaled(uint64_t power, uint32_t x) {
    uint64_t low = (uint64_t)(uint32_t)power * x, high = (power >> 32) * x + (low >> 32);
    return (uint32_t)(high >> 32) | ((uint32_t)high > 1);
}

static struct decimal choose(uint32_t fraction, int biased) {
    const uint32_t c = biased ? fraction | UINT32_C(1) << 23 : fraction;
    const int q = (biased ? biased : 1) - 150;
    if (q <= 0 && -q < 24 && !(c & ((UINT32_C(1) << -q) - 1))) return (struct decimal){c >> -q, 0};
    const uint32_t uneven = fraction == 0 && biased > 1, odd = c & 1;
    const int k = (int)((q * 1262611 - (uneven ? 524031 : 0)) >> 22);
    const int shift = q + ((-k * 1741647) >> 19) + 1;
    const uint64_t power = powers_of_ten[-k + 31];
    const uint32_t middle = scaled(power, (4 * c) << shift);
    const uint32_t lower = scaled(power, (4 * c - 2 + uneven) << shift) + odd;
    const uint32_t upper = scaled(power, (4 * c + 2) << shift) - odd;
    const uint32_t s = middle / 4, tens = s / 10;
    if (s >= 10) {
        const int below = lower <= 40 * tens, above = 40 * tens + 40 <= upper;
        if (below != above) return (struct decimal){tens + (uint32_t)above, k + 1};
    }
    const int below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above) return (struct decimal){s + (uint32_t)above, k};
    const uint32_t half = 4 * s + 2;
    return (struct decimal){s + (middle > half || (middle == half && (s & 1))), k};
}

static char *write_fixed(char *to, const char *digits, int count, int point) {
    if (point <= 0) {
        *to++ = '0';
        *to++ = '.';
        for (; point < 0; point++) *to++ = '0';
        memcpy(to, digits, (size_t)count);
        return to + count;
    }
    for (int i = 0; i < count || i < point; i++) {
        if (i == point) *to++ = '.';
        *to++ = i < count ? digits[i] : '0';
    }
    return to;
}

static char *write_scientific(char *to, const char *digits, int count, int exponent) {
    *to++ = digits[0];
    if (count > 1) {
        *to++ = '.';
        memcpy(to, digits + 1, (size_t)count - 1);
        to += count - 1;
    }
    *to++ = 'e';
    *to++ = exponent < 0 ? '-' : '+';
    exponent = exponent < 0 ? -exponent : exponent;
    *to++ = (char)('0' + exponent / 10);
    *to++ = (char)('0' + exponent % 10);
    return to;
}

char *write_float(char *to, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (bits >> 31) *to++ = '-';
    bits &= 0x7fffffff;
    if (bits >= 0x7f800000) { /* not a number that pgvector takes; it says so itself */
        memcpy(to, bits == 0x7f800000 ? "inf" : "nan", 3);
        return to + 3;
    }
    if (!bits) {
        *to++ = '0';
        return to;
    }
    struct decimal decimal = choose(bits & 0x7fffff, (int)(bits >> 23));
    while (decimal.digits % 10 == 0) decimal.digits /= 10, decimal.exponent++;
    char digits[10];
    int at = 10;
    for (uint32_t rest = decimal.digits; rest; rest /= 10) digits[--at] = (char)('0' + rest % 10);
    const int count = 10 - at, point = count + decimal.exponent;
    if (point > -5 && point <= 9) return write_fixed(to, digits + at, count, point);
    return write_scientific(to, digits + at, count, point - 1);
}

char *write_vector(char *to, const float *x, int count) {
    *to++ = '[';
    for (int i = 0; i < count; i++) {
        if (i) *to++ = ',';
        to = write_float(to, x[i]);
    }
    *to++ = ']';
    return to;
}

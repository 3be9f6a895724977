// Sums and largest numbers over the lanes of a warp, of several rows at once.

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;

struct Add {
    __device__ static float of(float a, float b) { return a + b; }
};
struct Larger {
    __device__ static float of(float a, float b) { return fmaxf(a, b); }
};

// Reduce ROWS numbers of each lane over a warp, side by side, so that one row's shuffle does not
// wait for another's (TurboTransformers, Fang et al. 2021, section 4.1).
template <class Operation, int ROWS>
__device__ inline void reduce(float (&values)[ROWS]) {
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            const float other = __shfl_xor_sync(ALL_LANES, values[row], apart);
            values[row] = Operation::of(values[row], other);
        }
    }
}

// softmax by rows, in place, less each row's largest number first so that nothing overflows.
// A warp takes two rows and reduces them together.
#include "element.cuh"
#include "warp.cuh"

constexpr int ROWS_OF_WARP = 2;

template <class T>
__device__ void softmax(T* x, int rows, int width) {
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const int first = (blockIdx.x * warps + threadIdx.x / WARP) * ROWS_OF_WARP;
    float largest[ROWS_OF_WARP], sum[ROWS_OF_WARP] = {};
    for (int row = 0; row < ROWS_OF_WARP; row++) largest[row] = lowest();

    for (int row = 0; row < ROWS_OF_WARP && first + row < rows; row++) {
        const T* from = x + (size_t)(first + row) * width;
        for (int col = lane; col < width; col += WARP)
            largest[row] = fmaxf(largest[row], widen(from[col]));
    }
    reduce<Larger>(largest);
    for (int row = 0; row < ROWS_OF_WARP && first + row < rows; row++) {
        const T* from = x + (size_t)(first + row) * width;
        for (int col = lane; col < width; col += WARP)
            sum[row] += expf(widen(from[col]) - largest[row]);
    }
    reduce<Add>(sum);
    for (int row = 0; row < ROWS_OF_WARP && first + row < rows; row++) {
        T* at = x + (size_t)(first + row) * width;
        for (int col = lane; col < width; col += WARP)
            store(at + col, expf(widen(at[col]) - largest[row]) / sum[row]);
    }
}

#define SOFTMAX(T, name)                                                                       \
    extern "C" __global__ void name(T* x, int rows, int width) { softmax<T>(x, rows, width); }
SOFTMAX(float, softmax_float32)
SOFTMAX(half16, softmax_float16)
SOFTMAX(bfloat16, softmax_bfloat16)

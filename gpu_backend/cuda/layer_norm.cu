// norm(x + bias + residual) by rows (Ba et al. 2016): what stands behind a product is read once.
// A warp takes two rows and reduces them together. Sums are kept in shared memory in float32, so
// that the variance is that of centred numbers: no difference of large squares.
#include "element.cuh"
#include "warp.cuh"

constexpr int ROWS_OF_WARP = 2;

extern __shared__ float shared[];

template <class T>
__device__ void layer_norm(
    T* out, const T* x, const float* bias, const T* residual, const float* weight,
    const float* shift, float eps, int rows, int width
) {
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const int first = (blockIdx.x * warps + threadIdx.x / WARP) * ROWS_OF_WARP;
    float* kept = shared + (size_t)(threadIdx.x / WARP) * ROWS_OF_WARP * width;
    float mean[ROWS_OF_WARP] = {}, variance[ROWS_OF_WARP] = {};

    for (int row = 0; row < ROWS_OF_WARP && first + row < rows; row++) {
        const size_t begin = (size_t)(first + row) * width;
        for (int col = lane; col < width; col += WARP) {
            float value = widen(x[begin + col]);
            if (bias) value += bias[col];
            if (residual) value += widen(residual[begin + col]);
            kept[row * width + col] = value;
            mean[row] += value;
        }
    }
    reduce<Add>(mean);
    for (int row = 0; row < ROWS_OF_WARP && first + row < rows; row++) {
        mean[row] /= width;
        for (int col = lane; col < width; col += WARP) {
            const float centred = kept[row * width + col] - mean[row];
            variance[row] += centred * centred;
        }
    }
    reduce<Add>(variance);
    for (int row = 0; row < ROWS_OF_WARP && first + row < rows; row++) {
        const size_t begin = (size_t)(first + row) * width;
        const float scale = 1.0f / sqrtf(variance[row] / width + eps);
        for (int col = lane; col < width; col += WARP) {
            const float centred = kept[row * width + col] - mean[row];
            store(out + begin + col, centred * scale * weight[col] + shift[col]);
        }
    }
}

#define LAYER_NORM(T, name)                                                                    \
    extern "C" __global__ void name(                                                           \
        T* out, const T* x, const float* bias, const T* residual, const float* weight,         \
        const float* shift, float eps, int rows, int width                                     \
    ) {                                                                                        \
        layer_norm<T>(out, x, bias, residual, weight, shift, eps, rows, width);                \
    }
LAYER_NORM(float, layer_norm_float32)
LAYER_NORM(half16, layer_norm_float16)
LAYER_NORM(bfloat16, layer_norm_bfloat16)

// activation(x + bias) + residual, element by element and in place: one reading of a product.
#include "element.cuh"

// The order of gpu_backend/launches.py.
enum Activation { NONE, GELU, GELU_TANH, RELU, SILU, SIGMOID, TANH };

__device__ inline float activated(float x, int activation) {
    switch (activation) {
        case GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case GELU_TANH:
            return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
        case RELU: return x < 0.0f ? 0.0f : x;  // which keeps what is not a number
        case SILU: return x / (1.0f + expf(-x));
        case SIGMOID: return 1.0f / (1.0f + expf(-x));
        case TANH: return tanhf(x);
        default: return x;
    }
}

template <class T>
__device__ void activation(
    T* x, const float* bias, const T* residual, int kind, long long count, int width
) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        float value = widen(x[i]);
        if (bias) value += bias[i % width];
        value = activated(value, kind);
        if (residual) value += widen(residual[i]);
        store(x + i, value);
    }
}

#define ACTIVATION(T, name)                                                                    \
    extern "C" __global__ void name(                                                           \
        T* x, const float* bias, const T* residual, int kind, long long count, int width       \
    ) {                                                                                        \
        activation<T>(x, bias, residual, kind, count, width);                                  \
    }
ACTIVATION(float, activation_float32)
ACTIVATION(half16, activation_float16)
ACTIVATION(bfloat16, activation_bfloat16)

// softmax(q k^T / sqrt(d) + bias) v in each sequence of a padding-free batch, with a running maximum
// and sum (Milakov and Gimelshein 2018; FlashAttention, Dao et al. 2022), accumulated in float32.
//
// A block takes a tile: up to 32 queries of one sequence, in one head. Four lanes share a query, each
// with every fourth of its numbers; keys and values come to shared memory 32 at a time.
#include "element.cuh"

constexpr unsigned ALL_LANES = 0xffffffffu;  // of a warp
constexpr int LANES = 4;  // of one query
constexpr int QUERIES = 32;  // of a block, TILE in gpu_backend/launches.py
constexpr int KEYS = 32;  // in shared memory at once

struct Tile { int start, length, first; };  // of the sequence: its row, its length; a query

template <class T, int WIDTH>
__device__ void load_keys(
    float (*to)[WIDTH], const T* from, const Tile& tile, int key, int stop, int stride, int d
) {
    for (int i = threadIdx.x; i < KEYS * WIDTH; i += blockDim.x) {
        const int row = i / WIDTH, col = i % WIDTH;
        const bool inside = key + row < stop && col < d;
        to[row][col] =
            inside ? widen(from[(size_t)(tile.start + key + row) * stride + col]) : 0.0f;
    }
}

// stride: of q, k and v. bias: [heads, 2 longest - 1] or null. reach: how far a query sees, seen: so
// many keys of each sequence are looked at; a query that sees none gives zeros.
template <class T, int WIDTH>
__device__ void attention(
    T* out, const T* q, const T* k, const T* v, const Tile* tiles, const float* bias, float scale,
    int d, int stride, int longest, int reach, int seen
) {
    __shared__ float keys[KEYS][WIDTH], values[KEYS][WIDTH];
    constexpr int OWN = WIDTH / LANES;
    const Tile tile = tiles[blockIdx.x];
    const int head = blockIdx.y, part = threadIdx.x % LANES;
    const int query = tile.first + threadIdx.x / LANES;
    const bool asks = query < tile.length;
    const size_t row = (size_t)(tile.start + query) * stride + head * d;
    const int last = min(tile.first + QUERIES, tile.length) - 1;
    const int begin = max(0, tile.first - reach) / KEYS * KEYS;
    const int stop = min(min(tile.length, seen), last + reach + 1);
    const float* by_distance = bias ? bias + head * (2 * longest - 1) + longest - 1 : nullptr;

    float own[OWN], mixed[OWN], largest = lowest(), sum = 0.0f;
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        const int col = i * LANES + part;
        own[i] = asks && col < d ? widen(q[row + col]) * scale : 0.0f;
        mixed[i] = 0.0f;
    }
    for (int key = begin; key < stop; key += KEYS) {
        __syncthreads();
        load_keys<T, WIDTH>(keys, k + head * d, tile, key, stop, stride, d);
        load_keys<T, WIDTH>(values, v + head * d, tile, key, stop, stride, d);
        __syncthreads();
        for (int j = 0; j < min(KEYS, stop - key); j++) {
            float score = 0.0f;
#pragma unroll
            for (int i = 0; i < OWN; i++) score += own[i] * keys[j][i * LANES + part];
            score += __shfl_xor_sync(ALL_LANES, score, 1);
            score += __shfl_xor_sync(ALL_LANES, score, 2);
            const int distance = key + j - query;
            if (!asks || distance > reach || distance < -reach) continue;
            if (by_distance) score += by_distance[distance];
            const float above = fmaxf(largest, score);
            const float fade = expf(largest - above), weight = expf(score - above);
            largest = above;
            sum = sum * fade + weight;
#pragma unroll
            for (int i = 0; i < OWN; i++)
                mixed[i] = mixed[i] * fade + weight * values[j][i * LANES + part];
        }
    }
    if (!asks) return;
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        const int col = i * LANES + part;
        if (col < d) store(out + row + col, sum > 0.0f ? mixed[i] / sum : 0.0f);
    }
}

#define ATTENTION(T, WIDTH, name)                                                              \
    extern "C" __global__ void name(                                                           \
        T* out, const T* q, const T* k, const T* v, const Tile* tiles, const float* bias,      \
        float scale, int d, int stride, int longest, int reach, int seen                       \
    ) {                                                                                        \
        attention<T, WIDTH>(                                                                   \
            out, q, k, v, tiles, bias, scale, d, stride, longest, reach, seen                  \
        );                                                                                     \
    }
#define ATTENTION_OF(T, type)                                                                  \
    ATTENTION(T, 32, attention_32_##type)                                                      \
    ATTENTION(T, 64, attention_64_##type)                                                      \
    ATTENTION(T, 128, attention_128_##type)
ATTENTION_OF(float, float32)
ATTENTION_OF(half16, float16)
ATTENTION_OF(bfloat16, bfloat16)

/* What the files of this folder share: the shapes of data, and the table of kernels of a variant. */
#ifndef PAGEFORMER_KERNELS_H
#define PAGEFORMER_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum activation { NO_ACTIVATION, GELU, GELU_TANH, RELU };

/* A [rows, cols] matrix as it lies in mapped pages: blocks[i * grid_cols + j] points at a
 * side x side tile, row-major, zeros past the edge. */
struct matrix {
    int rows, cols, side, grid_rows, grid_cols;
    const float **blocks;
};

/* y = activation(x W + bias) + residual, for `count` rows and the columns [col, col + width).
 * Rows are `*_stride` floats apart; y, bias and residual have room for whole strips. */
struct product {
    const float *x;
    ptrdiff_t x_stride;
    const struct matrix *weight;
    const float *bias;     /* or NULL */
    const float *residual; /* or NULL; strides as y */
    float *y;
    ptrdiff_t y_stride;
    int count;
    enum activation activation;
};

/* The same in bfloat16: panels of weights (matmul_bf16.c), `depth` of k, whole panels of columns.
 * The result goes to y, or in bfloat16 to y16. x has room for rows in multiples of 32. */
enum { PANEL_COLUMNS = 32 };

struct product16 {
    const uint16_t *x, *panels;
    ptrdiff_t x_stride, y_stride;
    const float *bias, *residual; /* residual or NULL */
    float *y;                     /* or NULL */
    uint16_t *y16;                /* or NULL */
    int depth, count;
    enum activation activation;
};

/* softmax(q k^T scale + bias) v for one head of one sequence. */
struct attention {
    const float *q, *k, *v; /* first row of the sequence, first column of the head */
    float *y;
    ptrdiff_t stride, y_stride;
    int length, width;      /* tokens; columns of a head */
    const float *bias;      /* or NULL: bias[j - i] by relative position */
    int window;             /* or -1: positions further apart than window / 2 are not seen */
    float *scratch;         /* attention_scratch() floats */
};

struct variant {
    const char *name;
    int strip;     /* columns that a product computes at once */
    int (*supported)(void);
    void (*product)(const struct product *, int strip_index, const struct matrix *ahead);
    void (*product16)(const struct product16 *, int panel);
    void (*narrow)(const float *from, uint16_t *to, int count);
    void (*attention)(const struct attention *);
    size_t (*attention_scratch)(int length, int width);
    void (*layer_norm)(const float *x, float *y, int width, const float *weight, const float *bias,
                       float eps);
    void (*add_rows)(float *y, const float *const *rows, int count, int width);
    void (*mean_rows)(const float *x, ptrdiff_t stride, int count, int width, float *y);
    void (*normalize)(const float *x, float *y, int width);
};

extern const struct variant variant_amx, variant_avx512_bf16, variant_avx512, variant_avx2,
    variant_portable;

/* The variants that this machine can run, best first; NULL ends them. */
const struct variant *const *available_variants(void);

#endif

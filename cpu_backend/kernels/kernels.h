/* What the files of this folder share: the shapes of data, and the table of kernels of a variant. */
#ifndef PAGEFORMER_KERNELS_H
#define PAGEFORMER_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum activation { NO_ACTIVATION, GELU, GELU_TANH, RELU, SILU };

/* How a product is computed: float32 reads blocks where they lie, the others panels made of them. */
enum form { FLOAT32, BFLOAT16, INT8 };

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

/* How a row of bytes is read: x = (byte - zero) * step. */
struct scale {
    float step;
    int32_t zero;
};

/* The same by panels of weights (panels.c), `depth` of k, whole panels of columns. x is in bfloat16
 * or, with scales, in bytes, and has room for rows in multiples of 32. The result goes to y, or in
 * bfloat16 to y16. */
enum { PANEL_COLUMNS = 32 };

struct panel_product {
    const uint16_t *x16;
    const uint8_t *x8;
    const struct scale *scales; /* of the rows of x8 */
    const void *panels;
    ptrdiff_t x_stride, y_stride;
    const float *bias, *residual; /* residual or NULL */
    float *y;                     /* or NULL */
    uint16_t *y16;                /* or NULL */
    int depth, count;
    enum activation activation;
};

/* Behind the lines of a panel of int8: what a step of each column means, and the sum of its steps. */
struct panel_end {
    float step[PANEL_COLUMNS];
    int32_t sum[PANEL_COLUMNS];
};

static inline size_t panel_bytes(enum form form, int depth) {
    if (form == BFLOAT16) return (size_t)depth * PANEL_COLUMNS * 2;
    return (size_t)depth * PANEL_COLUMNS + sizeof(struct panel_end);
}

/* softmax(q k^T scale + bias) v for one head of one sequence. */
struct attention {
    const float *q, *k, *v; /* first row of the sequence, first column of the head */
    float *y;
    ptrdiff_t stride, y_stride;
    int length, width;      /* tokens; columns of a head */
    const float *bias;      /* or NULL: bias[j - i] by relative position */
    int window;             /* or -1: positions further apart than window / 2 are not seen */
    float *scratch;         /* attention_scratch() floats */
    const uint16_t *q16, *k16, *v16; /* the same in bfloat16, for attention16 */
    uint16_t *y16;
};

/* The columns of a matrix that are read next, or NULL: a product fetches them while it computes. */
struct ahead {
    const struct matrix *weight;
    int col;
};

struct edited_product;
struct linear_segment;
struct ending;
struct end_edits;
struct bottleneck;

struct variant {
    const char *name;
    int strip;     /* columns that a product computes at once */
    int (*supported)(void);
    void (*product)(const struct product *, int strip_index, struct ahead ahead);
    void (*product16)(const struct panel_product *, int panel);
    void (*product8)(const struct panel_product *, int panel);
    void (*narrow)(const float *from, uint16_t *to, int count);
    void (*quantize)(const uint16_t *from, uint8_t *to, int count, struct scale *scale);
    void (*attention)(const struct attention *);
    void (*attention16)(const struct attention *); /* or NULL: not multiplied by this processor */
    size_t (*attention_scratch)(int length, int width);
    void (*layer_norm)(const float *x, float *y, int width, const float *weight, const float *bias,
                       float eps);
    void (*add_rows)(float *y, const float *const *rows, int count, int width);
    void (*mean_rows)(const float *x, ptrdiff_t stride, int count, int width, float *y);
    void (*normalize)(const float *x, float *y, int width);
    /* What tasks change: edits.h. */
    void (*edited_strip)(const struct edited_product *, int first, int end, int strip_index,
                         float *scratch);
    void (*prepare_rows)(const struct edited_product *, const struct linear_segment *, int first,
                         int count, float *scratch);
    void (*end_rows)(const struct ending *, const struct end_edits *, int start, int count);
    size_t (*ending_scratch)(const struct bottleneck *);
    double (*peak)(void);
};

extern const struct variant variant_amx, variant_avx512_bf16, variant_avx512_vnni, variant_avx512,
    variant_avx2, variant_portable;

/* The variants that this machine can run, best first; NULL ends them. */
const struct variant *const *available_variants(void);

#endif

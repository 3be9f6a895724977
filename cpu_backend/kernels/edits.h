/* What tasks change on runs of rows of a batch: in products, and where sub-layers end. */
#ifndef PAGEFORMER_EDITS_H
#define PAGEFORMER_EDITS_H

#include "kernels.h"

/* What a task changes in y = x W + bias. Lines of `down` and `up` are whole strips long. */
struct linear_edits {
    const float *scale_in;           /* or NULL: [in] */
    const float *down, *up;          /* or NULL: [in, rank_stride], [rank, out_stride] */
    const int32_t *starts;           /* or NULL: [out + 1], where the entries of a column begin */
    const uint16_t *indices;         /* their rows */
    const float *values;
    const uint8_t *kept;             /* or NULL: bits [in, kept_stride bytes], the first one lowest */
    const float *scale_out, *bias;   /* or NULL: [out] */
    int rank;
    ptrdiff_t rank_stride, out_stride, kept_stride;
};

enum {
    LINES = 32,       /* rows of x, at most, that are prepared together */
    BLOCK_ROWS = 192, /* at most, that one strip passes over: they stay in the cache */
};

/* The rows [start, stop) of a batch, BLOCK_ROWS at most; edits NULL: no task has them. What is
 * computed of x before all strips: x down, and what the entries add. */
struct linear_segment {
    int start, stop;
    const struct linear_edits *edits;
    float *reduced; /* [stop - start, rank_stride] */
    float *added;   /* [stop - start, out_stride] */
};

/* y = activation(x W + bias) + residual, as segments have it. */
struct edited_product {
    const float *x;
    ptrdiff_t x_stride;
    const float *bias, *residual; /* or NULL */
    const struct matrix *weight;
    float *y;
    ptrdiff_t y_stride;
    const struct linear_segment *segments;
    enum activation activation;
    int threads;                  /* that share the strips */
};

struct norm_parameters {
    const float *weight, *bias; /* NULL: no norm */
    float eps;
};

enum state { PRODUCT, ADDED, NORMED, RESIDUAL };

/* a(x) = up(activation(down(before(x)))); see udfs/tasks/task.py for where it stands. */
struct bottleneck {
    enum state input, base;
    int base_before_norm, closes, rank;
    enum activation activation;
    const float *down, *down_bias; /* [width, rank_stride], [rank_stride] */
    const float *up, *up_bias;     /* [rank, width_stride], [width_stride] */
    ptrdiff_t rank_stride, width_stride;
    struct norm_parameters before, after;
};

/* norm(x + residual) with what a task changes there. */
struct end_edits {
    struct norm_parameters norm; /* weight NULL: the version's own */
    const struct bottleneck *bottleneck; /* or NULL */
};

enum { END_ROWS = 36 }; /* at most, that are ended at once */

struct ending {
    const float *x, *residual; /* residual or NULL */
    float *y;                  /* may be x or residual */
    ptrdiff_t stride;          /* floats from one row of any of them to the next */
    int width;
    struct norm_parameters norm;
    float *scratch; /* ending_scratch() floats */
};

#endif

/* What tasks change, on rows of their own: included by each variant_*.c, behind matmul_f32.c.
 *
 * A strip of W stays in the cache while all rows of a batch pass over it, those whose task keeps a
 * part of its weights too: a mask is applied as a weight is loaded. Nothing here depends on how
 * many rows there are, so a row's bits do not depend on its batch.
 */
#include "edits.h"

/* VECTOR weights, zeros where their bits are. Columns are a multiple of VECTOR. */
INLINE vec load_kept(const float *w, const uint8_t *line, int col) {
#if defined(__x86_64__) && VECTOR == 16
    uint16_t bits;
    memcpy(&bits, line + col / 8, sizeof bits);
    return (vec)_mm512_maskz_loadu_ps(bits, w);
#else
    static const int32_t place[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    ivec lane;
    memcpy(&lane, place, sizeof lane);
    const int32_t bits = line[col / 8] >> col % 8;
    return (vec)((ivec)load(w) & ((lane & bits) != 0));
#endif
}

INLINE void kept_tile(const int rows, const float *x, ptrdiff_t x_stride,
                      const struct matrix *weight, int col, const struct linear_edits *edits,
                      float *y, ptrdiff_t y_stride) {
    const int side = weight->side;
    const uint8_t *line = edits->kept;
    vec sums[ROWS][COLUMNS] = {0};
    for (int i = 0, from = 0; from < weight->rows; i++, from += side) {
        const int depth = weight->rows - from < side ? weight->rows - from : side;
        const float *w = weight->blocks[i * weight->grid_cols + col / side] + col % side;
        for (int k = 0; k < depth; k++, w += side, line += edits->kept_stride) {
            vec wk[COLUMNS];
#pragma GCC unroll 4
            for (int c = 0; c < COLUMNS; c++)
                wk[c] = load_kept(w + c * VECTOR, line, col + c * VECTOR);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                vec xk = splat(x[r * x_stride + from + k]);
#pragma GCC unroll 4
                for (int c = 0; c < COLUMNS; c++) sums[r][c] += xk * wk[c];
            }
        }
    }
    store_tile(rows, sums, y, y_stride);
}

/* y += x W, W in one piece. */
INLINE void adding_tile(const int rows, const float *x, ptrdiff_t x_stride, const float *w,
                        ptrdiff_t w_stride, int depth, float *y, ptrdiff_t y_stride) {
    vec sums[ROWS][COLUMNS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; c++) sums[r][c] = load(y + r * y_stride + c * VECTOR);
    accumulate(rows, sums, x, x_stride, w, w_stride, depth);
    store_tile(rows, sums, y, y_stride);
}

#define EDITED_TILE(R)                                                                           \
    static void kept_tile_##R(const float *x, ptrdiff_t x_stride, const struct matrix *weight,   \
                              int col, const struct linear_edits *edits, float *y,               \
                              ptrdiff_t y_stride) {                                              \
        kept_tile(R, x, x_stride, weight, col, edits, y, y_stride);                              \
    }                                                                                            \
    static void adding_tile_##R(const float *x, ptrdiff_t x_stride, const float *w,              \
                                ptrdiff_t w_stride, int depth, float *y, ptrdiff_t y_stride) {   \
        adding_tile(R, x, x_stride, w, w_stride, depth, y, y_stride);                            \
    }

EDITED_TILE(1) EDITED_TILE(2) EDITED_TILE(3) EDITED_TILE(4) EDITED_TILE(5) EDITED_TILE(6)
#if ROWS == 12
EDITED_TILE(7) EDITED_TILE(8) EDITED_TILE(9) EDITED_TILE(10) EDITED_TILE(11) EDITED_TILE(12)
#endif

typedef void kept_tile_function(const float *, ptrdiff_t, const struct matrix *, int,
                                const struct linear_edits *, float *, ptrdiff_t);
static kept_tile_function *const kept_tiles[ROWS + 1] = BY_ROWS(kept_tile);
static small_tile_function *const adding_tiles[ROWS + 1] = BY_ROWS(adding_tile);

/* How many of `count` rows the next tile takes, `row` of them being done: spread evenly. */
INLINE int tile_rows(int count, int row) {
    const int tiles_left = (count - row + ROWS - 1) / ROWS;
    return (count - row + tiles_left - 1) / tiles_left;
}

/* y = x W, or y += x W; W [depth, cols] in one piece, its lines whole strips. */
static void flat_product(int count, const float *x, ptrdiff_t x_stride, const float *w,
                         ptrdiff_t w_stride, int depth, int cols, int add, float *y,
                         ptrdiff_t y_stride) {
    small_tile_function *const *by_rows = add ? adding_tiles : small_tiles;
    for (int col = 0; col < cols; col += STRIP)
        for (int row = 0, rows; row < count; row += rows) {
            rows = tile_rows(count, row);
            by_rows[rows](x + row * x_stride, x_stride, w + col, w_stride, depth,
                          y + row * y_stride + col, y_stride);
        }
}

/* The products of all rows with one strip of W, runs without a mask in one go. */
static void strip_products(const struct edited_product *p, int strip_index) {
    const int depth = p->weight->rows, col = strip_index * STRIP;
    for (int i = 0, last; i < p->segment_count; i = last) {
        const struct linear_edits *edits = p->segments[i].edits;
        const int masked = edits && edits->kept, start = p->segments[i].start;
        for (last = i + 1; last < p->segment_count; last++) {
            const struct linear_edits *other = p->segments[last].edits;
            if (masked ? other != edits : other && other->kept) break;
        }
        const int count = p->segments[last - 1].stop - start;
        const float *x = p->x + (ptrdiff_t)start * depth;
        if (!masked) {
            const struct product plain = {.x = x, .x_stride = depth, .weight = p->weight,
                                          .y = p->y + start * p->y_stride,
                                          .y_stride = p->y_stride, .count = count};
            product(&plain, strip_index, NULL);
            continue;
        }
        for (int row = 0, rows; row < count; row += rows) {
            rows = tile_rows(count, row);
            kept_tiles[rows](x + (ptrdiff_t)row * depth, depth, p->weight, col, edits,
                             p->y + (start + row) * p->y_stride + col, p->y_stride);
        }
    }
}

/* to [cols, width] = from [rows, cols] turned round; compiled once, for any numbers. */
static __attribute__((noinline, noclone)) void turn_block(const float *from, ptrdiff_t stride,
                                                          int rows, int cols, float *to,
                                                          int width) {
    turn((const uint32_t *)from, stride, rows, cols, (uint32_t *)to, width, width);
}

/* What the entries of one column give to LINES rows, or to `vectors` vectors of them. */
INLINE void sum_entries(const int vectors, const struct linear_edits *edits, int col,
                        const float *turned, float *sums) {
    vec sum[LINES / VECTOR] = {0};
    for (int e = edits->starts[col]; e < edits->starts[col + 1]; e++) {
        const float *x = turned + (ptrdiff_t)edits->indices[e] * LINES;
        for (int v = 0; v < vectors; v++) sum[v] += edits->values[e] * load(x + v * VECTOR);
    }
    for (int v = 0; v < vectors; v++) store(sums + v * VECTOR, sum[v]);
}

/* y += x S for a strip, LINES rows at a time: sums lie by columns, and are turned round again. */
static void add_sparse(const struct linear_segment *segment, int col, int cols, float *y,
                       ptrdiff_t y_stride) {
    const struct linear_edits *edits = segment->edits;
    const int depth = segment->depth, end = cols - col < STRIP ? cols - col : STRIP;
    if (edits->starts[col] == edits->starts[col + end]) return;
    float sums[STRIP * LINES] = {0}, rows[LINES * STRIP];
    for (int line = 0, left; (left = segment->stop - segment->start - line) > 0; line += LINES) {
        const float *turned = segment->turned + (ptrdiff_t)line * depth;
        for (int c = 0; c < end; c++) {
            if (left <= LINES / 2) sum_entries(LINES / 2 / VECTOR, edits, col + c, turned, sums + c * LINES);
            else sum_entries(LINES / VECTOR, edits, col + c, turned, sums + c * LINES);
        }
        if (left > LINES) left = LINES;
        turn_block(sums, LINES, STRIP, left, rows, STRIP);
        for (int r = 0; r < left; r++)
            for (int c = 0; c < STRIP; c += VECTOR) {
                float *at = y + (line + r) * y_stride + c;
                store(at, load(at) + load(rows + r * STRIP + c));
            }
    }
}

/* Part of a vector of `cols` elements, zeros behind them. */
INLINE vec part_of(const float *from, int at, int cols) {
    return at < cols ? load_part(from + at, cols - at) : (vec){0};
}

INLINE void finish_segment(const struct edited_product *p, const struct linear_segment *segment,
                           int col, const enum activation activation) {
    const struct linear_edits *edits = segment->edits;
    const int cols = p->weight->cols;
    const float *scale = edits ? edits->scale_out : NULL, *more = edits ? edits->bias : NULL;
    for (int c = col; c < col + STRIP; c += VECTOR) {
        const vec factor = scale ? part_of(scale, c, cols) : splat(1.0f);
        const vec bias = p->bias ? part_of(p->bias, c, cols) : (vec){0};
        const vec difference = more ? part_of(more, c, cols) : (vec){0};
        for (int r = segment->start; r < segment->stop; r++) {
            vec sums = load(p->y + r * p->y_stride + c);
            if (scale) sums *= factor;
            sums = activate(sums + (bias + difference), activation);
            if (p->residual) sums += part_of(p->residual + (ptrdiff_t)r * cols, c, cols);
            store(p->y + r * p->y_stride + c, sums);
        }
    }
}

/* One strip of an edited product, for all rows. */
static void edited_strip(const struct edited_product *p, int strip_index) {
    const int col = strip_index * STRIP;
    strip_products(p, strip_index);
    for (int i = 0; i < p->segment_count; i++) {
        const struct linear_segment *segment = &p->segments[i];
        const struct linear_edits *edits = segment->edits;
        float *y = p->y + segment->start * p->y_stride + col;
        if (edits && edits->up)
            flat_product(segment->stop - segment->start, segment->reduced, edits->rank_stride,
                         edits->up + col, edits->out_stride, edits->rank, STRIP, 1, y,
                         p->y_stride);
        if (edits && edits->starts) add_sparse(segment, col, p->weight->cols, y, p->y_stride);
        switch (p->activation) {
        case GELU: finish_segment(p, segment, col, GELU); break;
        case GELU_TANH: finish_segment(p, segment, col, GELU_TANH); break;
        case RELU: finish_segment(p, segment, col, RELU); break;
        case SILU: finish_segment(p, segment, col, SILU); break;
        default: finish_segment(p, segment, col, NO_ACTIVATION);
        }
    }
}

/* What a segment computes of its rows of x [count, depth] before any strip. */
static void prepare_segment(const struct linear_segment *segment, const float *x, int depth) {
    const struct linear_edits *edits = segment->edits;
    const int count = segment->stop - segment->start;
    if (edits->up)
        flat_product(count, x, depth, edits->down, edits->rank_stride, depth,
                     (int)edits->rank_stride, 0, segment->reduced, edits->rank_stride);
    for (int line = 0; edits->starts && line < count; line += LINES)
        turn_block(x + (ptrdiff_t)line * depth, depth, count - line < LINES ? count - line : LINES,
                   depth, segment->turned + (ptrdiff_t)line * depth, LINES);
}

/* -- where sub-layers end --------------------------------------------------------------------- */

/* Of one unit: what goes in, its norm, what comes out, and the narrow part between. */
static size_t ending_scratch(const struct bottleneck *b) {
    return (size_t)END_ROWS * (size_t)(3 * b->width_stride + b->rank_stride);
}

static void norm_rows(const float *x, ptrdiff_t x_stride, float *y, ptrdiff_t y_stride, int count,
                      int width, const struct norm_parameters *norm) {
    for (int r = 0; r < count; r++)
        layer_norm(x + r * x_stride, y + r * y_stride, width, norm->weight, norm->bias, norm->eps);
}

static void add_vectors(float *y, const float *a, const float *b, int width) {
    for (int c = 0; c < width; c += VECTOR)
        store_part(y + c, load_part(a + c, width - c) + load_part(b + c, width - c), width - c);
}

/* Rows of one of the states that a bottleneck reads; `own` has room where it must be computed. */
static const float *state_rows(const struct ending *e, enum state state, int start, int count,
                               const struct norm_parameters *norm, float *own, ptrdiff_t stride,
                               ptrdiff_t *found) {
    const float *x = e->x + (ptrdiff_t)start * e->width;
    const float *residual = e->residual ? e->residual + (ptrdiff_t)start * e->width : NULL;
    *found = e->width;
    if (state == RESIDUAL && residual) return residual;
    if (state == PRODUCT || (state == RESIDUAL && !residual)) return x;
    if (state == ADDED && !residual) return x;
    *found = stride;
    for (int r = 0; r < count; r++) {
        if (residual) add_vectors(own + r * stride, x + r * e->width, residual + r * e->width, e->width);
        else memcpy(own + r * stride, x + r * e->width, (size_t)e->width * sizeof(float));
    }
    if (state == NORMED && norm->weight) norm_rows(own, stride, own, stride, count, e->width, norm);
    return own;
}

/* y = a(input) + base, for up to END_ROWS rows. */
static void apply_bottleneck(const struct ending *e, const struct bottleneck *b, int start,
                             int count, const struct norm_parameters *norm) {
    const ptrdiff_t wide = b->width_stride, narrow = b->rank_stride;
    float *in = e->scratch, *base_room = in + END_ROWS * wide, *out = base_room + END_ROWS * wide;
    float *between = out + END_ROWS * wide;
    ptrdiff_t stride, base_stride;
    const float *x = state_rows(e, b->input, start, count, norm, in, wide, &stride);
    const float *base = state_rows(e, b->base, start, count, norm, base_room, wide, &base_stride);
    if (b->before.weight) {
        norm_rows(x, stride, in, wide, count, e->width, &b->before);
        x = in, stride = wide;
    }
    flat_product(count, x, stride, b->down, narrow, e->width, (int)narrow, 0, between, narrow);
    for (int r = 0; r < count; r++)
        for (int c = 0; c < narrow; c += VECTOR) {
            float *at = between + r * narrow + c;
            store(at, activate(load(at) + load(b->down_bias + c), b->activation));
        }
    flat_product(count, between, narrow, b->up, wide, b->rank, (int)wide, 0, out, wide);
    for (int r = 0; r < count; r++) {
        float *row = out + r * wide, *y = e->y + (ptrdiff_t)(start + r) * e->width;
        add_vectors(row, row, b->up_bias, e->width);
        if (b->base_before_norm) add_vectors(row, row, base + r * base_stride, e->width);
        if (b->after.weight) norm_rows(row, wide, row, wide, 1, e->width, &b->after);
        if (b->base_before_norm) memcpy(y, row, (size_t)e->width * sizeof(float));
        else add_vectors(y, row, base + r * base_stride, e->width);
    }
}

/* End a sub-layer for `count` rows, at most END_ROWS of them. */
static void end_rows(const struct ending *e, const struct end_edits *edits, int start, int count) {
    const struct norm_parameters *norm = edits && edits->norm.weight ? &edits->norm : &e->norm;
    const struct bottleneck *bottleneck = edits ? edits->bottleneck : NULL;
    if (bottleneck) apply_bottleneck(e, bottleneck, start, count, norm);
    if (bottleneck && !bottleneck->closes) return;
    for (int r = start; r < start + count; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * e->width;
        const float *x = bottleneck ? e->y + at : e->x + at;
        if (e->residual) add_vectors(e->y + at, x, e->residual + at, e->width);
        else if (x != e->y + at) memcpy(e->y + at, x, (size_t)e->width * sizeof(float));
        if (norm->weight) norm_rows(e->y + at, 0, e->y + at, 0, 1, e->width, norm);
    }
}

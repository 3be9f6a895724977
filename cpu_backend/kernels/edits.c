/* What tasks change in products, on rows of their own: included by each variant_*.c, behind
 * matmul_f32.c.
 *
 * A block of rows stays in the cache while strip after strip of W passes over it, and a strip while
 * the rows pass, those whose task keeps a part of its weights too: a mask is applied as a weight is
 * loaded. Sums stay beside it until they are finished. Nothing here depends on how many rows there
 * are, so a row's bits do not depend on its batch.
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

INLINE void kept_accumulate(const int rows, vec y[ROWS][COLUMNS], const float *x, ptrdiff_t x_stride,
                            const float *w, ptrdiff_t w_stride, int depth, const uint8_t *line,
                            ptrdiff_t line_stride, int col, const float *next, float *kept) {
    for (int k = 0; k < depth; k++, w += w_stride, line += line_stride, kept += STRIP) {
        fetch_row(next + k * w_stride);
        vec wk[COLUMNS];
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; c++) {
            wk[c] = load_kept(w + c * VECTOR, line, col + c * VECTOR);
            store(kept + c * VECTOR, wk[c]);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vec xk = splat(x[r * x_stride + k]);
#pragma GCC unroll 4
            for (int c = 0; c < COLUMNS; c++) y[r][c] += xk * wk[c];
        }
    }
}

/* x times what a task keeps of a strip, which is left in `kept`, [depth, STRIP]. */
INLINE void kept_tile(const int rows, const float *x, ptrdiff_t x_stride,
                      const struct matrix *weight, int col, const struct fetching *fetching,
                      const struct linear_edits *edits, float *y, float *kept) {
    const int side = weight->side;
    vec sums[ROWS][COLUMNS] = {0};
    for (int i = 0, from = 0; from < weight->rows; i++, from += side) {
        const int depth = weight->rows - from < side ? weight->rows - from : side;
        const float *w = strip_at(weight, i, col);
        kept_accumulate(rows, sums, x + from, x_stride, w, side, depth,
                        edits->kept + from * edits->kept_stride, edits->kept_stride, col,
                        fetched(fetching, weight, col, i), kept + from * STRIP);
    }
    store_tile(rows, sums, y, STRIP);
}

/* y += x W, W in one piece. */
INLINE void adding_tile(const int rows, const float *x, ptrdiff_t x_stride, const float *w,
                        ptrdiff_t w_stride, int depth, float *y, ptrdiff_t y_stride) {
    vec sums[ROWS][COLUMNS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; c++) sums[r][c] = load(y + r * y_stride + c * VECTOR);
    accumulate(rows, sums, x, x_stride, w, w_stride, depth, 0, w);
    store_tile(rows, sums, y, y_stride);
}

#define EDITED_TILE(R)                                                                           \
    static void kept_tile_##R(const float *x, ptrdiff_t x_stride, const struct matrix *weight,   \
                              int col, const struct fetching *fetching,                          \
                              const struct linear_edits *edits, float *y, float *kept) {         \
        kept_tile(R, x, x_stride, weight, col, fetching, edits, y, kept);                        \
    }                                                                                            \
    static void adding_tile_##R(const float *x, ptrdiff_t x_stride, const float *w,              \
                                ptrdiff_t w_stride, int depth, float *y, ptrdiff_t y_stride) {   \
        adding_tile(R, x, x_stride, w, w_stride, depth, y, y_stride);                            \
    }

EDITED_TILE(1) EDITED_TILE(2) EDITED_TILE(3) EDITED_TILE(4) EDITED_TILE(5) EDITED_TILE(6)
#if ROWS == 14
EDITED_TILE(7) EDITED_TILE(8) EDITED_TILE(9) EDITED_TILE(10) EDITED_TILE(11) EDITED_TILE(12)
EDITED_TILE(13) EDITED_TILE(14)
#endif

typedef void kept_tile_function(const float *, ptrdiff_t, const struct matrix *, int,
                                const struct fetching *, const struct linear_edits *, float *,
                                float *);
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

/* The strip that comes next for this thread. */
static struct fetching fetching_next(const struct edited_product *p, int col) {
    const int next = col + p->threads * STRIP;
    return (struct fetching){{p->weight, next < p->weight->cols ? next : 0}, 0};
}

/* Rows of x times one strip of W. */
static void strip_rows(const struct edited_product *p, const float *x, int count, int col, float *y) {
    struct fetching fetching = fetching_next(p, col);
    for (int row = 0, rows; row < count; row += rows, fetching.index++) {
        rows = tile_rows(count, row);
        tiles[rows](x + row * p->x_stride, p->x_stride, p->weight, col, &fetching, y + row * STRIP,
                    STRIP);
    }
}

/* Rows of x times what a task keeps of one strip: to leave weights out takes as long as two rows, so the
 * first tile does it for the others. */
static void kept_rows(const struct edited_product *p, const struct linear_edits *edits,
                      const float *x, int count, int col, float *y, float *kept) {
    const struct fetching fetching = fetching_next(p, col);
    const int rows = tile_rows(count, 0);
    kept_tiles[rows](x, p->x_stride, p->weight, col, &fetching, edits, y, kept);
    flat_product(count - rows, x + rows * p->x_stride, p->x_stride, kept, STRIP, p->weight->rows, STRIP,
                 0, y + rows * STRIP, STRIP);
}

/* The products of some segments with one strip of W, neighbours without a mask in one go. */
static void strip_products(const struct edited_product *p, int first, int end, int col, float *y,
                           float *scratch) {
    const int begin = p->segments[first].start;
    for (int i = first, last; i < end; i = last) {
        const struct linear_edits *edits = p->segments[i].edits;
        const int masked = edits && edits->kept, start = p->segments[i].start;
        for (last = i + 1; last < end; last++) {
            const struct linear_edits *other = p->segments[last].edits;
            if (masked ? other != edits : other && other->kept) break;
        }
        const int count = p->segments[last - 1].stop - start;
        const float *x = p->x + start * p->x_stride;
        float *to = y + (start - begin) * STRIP;
        if (masked) kept_rows(p, edits, x, count, col, to, scratch);
        else strip_rows(p, x, count, col, to);
    }
}

/* to [cols, .] = from [rows, cols] turned round, in lines of `width`; compiled once, for any numbers. */
static __attribute__((noinline, noclone)) void turn_block(const float *from, ptrdiff_t stride,
                                                          int rows, int cols, float *to,
                                                          ptrdiff_t to_stride, int width) {
    turn((const uint32_t *)from, stride, rows, cols, (uint32_t *)to, to_stride, width);
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

/* y = x S for up to LINES rows: x and the sums of a strip lie by columns, and are turned round. */
static void sparse_product(const struct linear_edits *edits, const float *x, ptrdiff_t x_stride,
                           int count, int depth, int cols, float *turned, float *y) {
    float sums[STRIP * LINES] = {0};
    turn_block(x, x_stride, count, depth, turned, LINES, LINES);
    for (int col = 0; col < cols; col += STRIP) {
        for (int c = 0; c < STRIP && col + c < cols; c++) {
            if (count <= LINES / 2) sum_entries(LINES / 2 / VECTOR, edits, col + c, turned, sums + c * LINES);
            else sum_entries(LINES / VECTOR, edits, col + c, turned, sums + c * LINES);
        }
        turn_block(sums, LINES, STRIP, count, y + col, edits->out_stride, STRIP);
    }
}

/* What the entries add to a strip of the rows of a segment. */
static void add_sparse(const struct linear_segment *segment, int col, float *y) {
    const float *added = segment->added + col;
    for (int r = segment->start; r < segment->stop; r++, added += segment->edits->out_stride)
        for (int c = 0; c < STRIP; c += VECTOR, y += VECTOR) store(y, load(y) + load(added + c));
}

/* Part of a vector of `cols` elements, zeros behind them. */
INLINE vec part_of(const float *from, int at, int cols) {
    return at < cols ? load_part(from + at, cols - at) : (vec){0};
}

/* What is done to the sums of a strip, but for their activation. */
struct finish {
    vec factor[COLUMNS], bias[COLUMNS];
    int scales;
};

static struct finish finish_of(const struct edited_product *p, const struct linear_edits *edits, int col) {
    const int cols = p->weight->cols;
    struct finish finish = {.scales = edits && edits->scale_out};
    for (int c = 0, at = col; c < COLUMNS; c++, at += VECTOR) {
        if (finish.scales) finish.factor[c] = part_of(edits->scale_out, at, cols);
        if (p->bias) finish.bias[c] = part_of(p->bias, at, cols);
        if (edits && edits->bias) finish.bias[c] += part_of(edits->bias, at, cols);
    }
    return finish;
}

/* y = activation(factor * sums + bias) + residual, for rows of `left` columns at most. A row's part of a
 * strip is written in one go: rows lie pages apart. */
INLINE void finish_rows(const struct finish *finish, const float *sums, int rows, const int left,
                        const float *residual, ptrdiff_t residual_stride, float *y,
                        ptrdiff_t y_stride, const enum activation activation) {
    const struct finish by = *finish;
    for (int r = 0; r < rows; r++, sums += STRIP, y += y_stride) {
        for (int c = 0; c < COLUMNS && c * VECTOR < left; c++) {
            vec x = load(sums + c * VECTOR);
            if (by.scales) x *= by.factor[c];
            x = activate(x + by.bias[c], activation);
            if (residual) x += load_part(residual + c * VECTOR, left - c * VECTOR);
            store_part(y + c * VECTOR, x, left - c * VECTOR);
        }
        if (residual) residual += residual_stride;
    }
}

INLINE void finish_segment(const struct edited_product *p, const struct linear_segment *segment,
                           int col, const float *sums, const enum activation activation) {
    const struct finish finish = finish_of(p, segment->edits, col);
    const int cols = p->weight->cols, rows = segment->stop - segment->start;
    const ptrdiff_t first = segment->start;
    const float *residual = p->residual ? p->residual + first * cols + col : NULL;
    float *y = p->y + first * p->y_stride + col;
    if (cols - col >= STRIP)
        finish_rows(&finish, sums, rows, STRIP, residual, cols, y, p->y_stride, activation);
    else finish_rows(&finish, sums, rows, cols - col, residual, cols, y, p->y_stride, activation);
}

static void finish_sums(const struct edited_product *p, const struct linear_segment *segment,
                        int col, const float *sums) {
    switch (p->activation) {
    case GELU: finish_segment(p, segment, col, sums, GELU); break;
    case GELU_TANH: finish_segment(p, segment, col, sums, GELU_TANH); break;
    case RELU: finish_segment(p, segment, col, sums, RELU); break;
    case SILU: finish_segment(p, segment, col, sums, SILU); break;
    default: finish_segment(p, segment, col, sums, NO_ACTIVATION);
    }
}

/* One strip of an edited product, for the segments first .. end - 1: BLOCK_ROWS rows at most; scratch:
 * LINES rows of x. */
static void edited_strip(const struct edited_product *p, int first, int end, int strip_index,
                         float *scratch) {
    const int col = strip_index * STRIP, begin = p->segments[first].start;
    float sums[BLOCK_ROWS * STRIP] __attribute__((aligned(64)));
    strip_products(p, first, end, col, sums, scratch);
    for (int i = first; i < end; i++) {
        const struct linear_segment *segment = &p->segments[i];
        const struct linear_edits *edits = segment->edits;
        float *y = sums + (segment->start - begin) * STRIP;
        if (edits && edits->up)
            flat_product(segment->stop - segment->start, segment->reduced, edits->rank_stride,
                         edits->up + col, edits->out_stride, edits->rank, STRIP, 1, y, STRIP);
        if (edits && edits->starts) add_sparse(segment, col, y);
        finish_sums(p, segment, col, y);
    }
}

/* What up to LINES rows of a segment compute before any strip; scratch: LINES rows of x. */
static void prepare_rows(const struct edited_product *p, const struct linear_segment *segment,
                         int first, int count, float *scratch) {
    const struct linear_edits *edits = segment->edits;
    const int depth = p->weight->rows;
    const float *x = p->x + (segment->start + first) * p->x_stride;
    if (edits->up)
        flat_product(count, x, p->x_stride, edits->down, edits->rank_stride, depth,
                     (int)edits->rank_stride, 0, segment->reduced + first * edits->rank_stride,
                     edits->rank_stride);
    if (edits->starts)
        sparse_product(edits, x, p->x_stride, count, depth, p->weight->cols, scratch,
                       segment->added + first * edits->out_stride);
}

/* The product of float32 activations with a grid of blocks, each read where it lies.
 *
 * Included by each variant_*.c. A tile of y stays in registers while k runs over a strip of W:
 *
 *                      W   ______strip______      strip = COLUMNS vectors side by side;
 *                          | w[k,0] w[k,1] |      its rows lie `side` floats apart in a block,
 *                          |   .      .    |      the blocks of a block column follow one
 *                          |   v k    v    |      another through the table of pointers
 *      x  __k__>___        |_______________|
 *      r0 |x[0,k] .|       | y[0,0] y[0,1] |
 *      r1 |x[1,k] .|       | y[1,0] y[1,1] |      ROWS x COLUMNS accumulators, ROWS broadcasts,
 *       : |  .     |       |   .      .    |      COLUMNS loads for ROWS * COLUMNS multiply-adds
 *      rR |x[R,k] .|       | y[R,0] y[R,1] |
 *
 * An element of y is one chain of multiply-adds over k, whatever the tile, so its bits depend on
 * its own row alone.
 */

INLINE void fetch_row(const float *row) {
    for (int c = 0; c < COLUMNS * VECTOR; c += 16) __builtin_prefetch(row + c, 0, 2);
}

/* y += x W for `depth` lines of a strip; with each, where `fetch` says so, a line of the strip at `next`
 * is asked for: evenly, since a core has no more than some fifty of them on their way at once. */
INLINE void accumulate(const int rows, vec y[ROWS][COLUMNS], const float *x, ptrdiff_t x_stride,
                       const float *w, ptrdiff_t w_stride, int depth, const int fetch,
                       const float *next) {
    const float *half = x + rows / 2 * x_stride;
    for (int k = 0; k < depth; k++, w += w_stride, next += w_stride) {
        vec wk[COLUMNS];
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; c++) wk[c] = load(w + c * VECTOR);
        if (fetch) fetch_row(next);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vec xk = splat(r < rows / 2 ? x[r * x_stride + k] : half[(r - rows / 2) * x_stride + k]);
#pragma GCC unroll 4
            for (int c = 0; c < COLUMNS; c++) y[r][c] += xk * wk[c];
        }
    }
}

INLINE void store_tile(const int rows, vec sums[ROWS][COLUMNS], float *y, ptrdiff_t y_stride) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; c++) store(y + r * y_stride + c * VECTOR, sums[r][c]);
}

/* What a strip's tiles fetch into the second-level cache while they compute. */
struct fetching {
    struct ahead ahead;
    int index; /* of the tile: the first one fetches, the others ask for what is there */
};

INLINE const float *strip_at(const struct matrix *weight, int block, int col) {
    return weight->blocks[block * weight->grid_cols + col / weight->side] + col % weight->side;
}

/* The lines that are fetched while those of a block row are multiplied: a few blocks on, in this strip
 * or in the one that is read next. */
INLINE const float *fetched(const struct fetching *fetching, const struct matrix *weight, int col,
                            int block) {
    enum { BLOCKS_AHEAD = 3 };
    const struct matrix *next = fetching->ahead.weight;
    if (fetching->index) return strip_at(weight, block, col);
    block += weight->grid_rows < BLOCKS_AHEAD ? weight->grid_rows : BLOCKS_AHEAD;
    if (block < weight->grid_rows) return strip_at(weight, block, col);
    block -= weight->grid_rows;
    return strip_at(next, block < next->grid_rows ? block : next->grid_rows - 1, fetching->ahead.col);
}

/* One tile over all of k: raw sums, to y. */
INLINE void tile(const int rows, const float *x, ptrdiff_t x_stride, const struct matrix *weight,
                 int col, const struct fetching *fetching, float *y, ptrdiff_t y_stride) {
    const int side = weight->side;
    vec sums[ROWS][COLUMNS] = {0};
    for (int i = 0, from = 0; from < weight->rows; i++, from += side) {
        const int depth = weight->rows - from < side ? weight->rows - from : side;
        const float *w = strip_at(weight, i, col);
        accumulate(rows, sums, x + from, x_stride, w, side, depth, 1,
                   fetched(fetching, weight, col, i));
    }
    store_tile(rows, sums, y, y_stride);
}

/* The same without blocks: W [depth, .] lies in one piece. */
INLINE void small_tile(const int rows, const float *x, ptrdiff_t x_stride, const float *w,
                       ptrdiff_t w_stride, int depth, float *y, ptrdiff_t y_stride) {
    vec sums[ROWS][COLUMNS] = {0};
    accumulate(rows, sums, x, x_stride, w, w_stride, depth, 0, w);
    store_tile(rows, sums, y, y_stride);
}

#define TILE(R)                                                                                    \
    static void tile_##R(const float *x, ptrdiff_t x_stride, const struct matrix *weight, int col, \
                         const struct fetching *fetching, float *y, ptrdiff_t y_stride) {                \
        tile(R, x, x_stride, weight, col, fetching, y, y_stride);                                     \
    }                                                                                              \
    static void small_tile_##R(const float *x, ptrdiff_t x_stride, const float *w,                 \
                               ptrdiff_t w_stride, int depth, float *y, ptrdiff_t y_stride) {      \
        small_tile(R, x, x_stride, w, w_stride, depth, y, y_stride);                               \
    }

TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#if ROWS == 14
TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14)
#define BY_ROWS(name)                                                                     \
    {NULL, name##_1, name##_2, name##_3, name##_4,  name##_5,  name##_6,                  \
           name##_7, name##_8, name##_9, name##_10, name##_11, name##_12, name##_13, name##_14}
#else
#define BY_ROWS(name) {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6}
#endif

typedef void tile_function(const float *, ptrdiff_t, const struct matrix *, int,
                           const struct fetching *, float *, ptrdiff_t);
typedef void small_tile_function(const float *, ptrdiff_t, const float *, ptrdiff_t, int, float *,
                                 ptrdiff_t);
static tile_function *const tiles[ROWS + 1] = BY_ROWS(tile);
static small_tile_function *const small_tiles[ROWS + 1] = BY_ROWS(small_tile);

INLINE vec activate(vec x, const enum activation activation) {
    switch (activation) {
    case GELU: return gelu(x);
    case GELU_TANH: return gelu_tanh(x);
    case RELU: return relu(x);
    case SILU: return silu(x);
    default: return x;
    }
}

INLINE void finish_with(const struct product *p, float *y, const float *residual, int col, int rows,
                        const enum activation activation) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < COLUMNS * VECTOR; c += VECTOR) {
            vec sums = load(y + r * p->y_stride + c);
            if (p->bias) sums += load(p->bias + col + c);
            sums = activate(sums, activation);
            if (residual) sums += load(residual + r * p->y_stride + c);
            store(y + r * p->y_stride + c, sums);
        }
}

/* Bias, activation and residual for a tile that is still in the first-level cache. */
static void finish(const struct product *p, float *y, const float *residual, int col, int rows) {
    switch (p->activation) {
    case GELU: finish_with(p, y, residual, col, rows, GELU); break;
    case GELU_TANH: finish_with(p, y, residual, col, rows, GELU_TANH); break;
    case RELU: finish_with(p, y, residual, col, rows, RELU); break;
    case SILU: finish_with(p, y, residual, col, rows, SILU); break;
    default: finish_with(p, y, residual, col, rows, NO_ACTIVATION);
    }
}

/* One strip of columns for all rows. Rows are spread evenly over tiles: 15 are 8 + 7, not 14 + 1. */
static void product(const struct product *p, int strip_index, struct ahead ahead) {
    const int col = strip_index * COLUMNS * VECTOR;
    const int count = (p->count + ROWS - 1) / ROWS;
    struct fetching fetching = {ahead, 0};
    if (!ahead.weight || ahead.weight->side != p->weight->side)
        fetching.ahead = (struct ahead){p->weight, col};
    for (int row = 0; fetching.index < count; fetching.index++) {
        int rows = (int)((int64_t)p->count * (fetching.index + 1) / count) - row;
        float *y = p->y + row * p->y_stride + col;
        const float *residual = p->residual ? p->residual + row * p->y_stride + col : NULL;
        tiles[rows](p->x + row * p->x_stride, p->x_stride, p->weight, col, &fetching, y, p->y_stride);
        finish(p, y, residual, col, rows);
        row += rows;
    }
}

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

INLINE void accumulate(const int rows, vec y[ROWS][COLUMNS], const float *x, ptrdiff_t x_stride,
                       const float *w, ptrdiff_t w_stride, int depth) {
    for (int k = 0; k < depth; k++) {
        vec wk[COLUMNS];
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; c++) wk[c] = load(w + c * VECTOR);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vec xk = splat(x[r * x_stride + k]);
#pragma GCC unroll 4
            for (int c = 0; c < COLUMNS; c++) y[r][c] += xk * wk[c];
        }
        w += w_stride;
    }
}

INLINE void store_tile(const int rows, vec sums[ROWS][COLUMNS], float *y, ptrdiff_t y_stride) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; c++) store(y + r * y_stride + c * VECTOR, sums[r][c]);
}

/* How a strip's tiles fetch the one that is read next into the second-level cache while they compute:
 * each of `count` tiles every count-th row of it, so that memory is asked for evenly. */
struct fetching {
    struct ahead ahead;
    int count, index;
};

INLINE void fetch_row(const float *row) {
    for (int c = 0; c < COLUMNS * VECTOR; c += 16) __builtin_prefetch(row + c, 0, 2);
}

/* Rows of k between two rounds of fetching, so that a round asks for 16 rows at most: those and no
 * more can be on their way at once, and a short loop is left too often by a branch foretold wrongly. */
INLINE int fetch_every(const struct fetching *fetching, int side) {
    enum { AT_ONCE = 16 };
    return fetching->count < side / AT_ONCE ? fetching->count * AT_ONCE : side;
}

/* What this tile fetches of the strip that comes next while it multiplies `depth` lines of block row
 * `block`, from line k on. */
INLINE void fetch_some(const struct fetching *fetching, int block, int k, int depth) {
    const struct matrix *weight = fetching->ahead.weight;
    const int row = block < weight->grid_rows ? block : weight->grid_rows - 1, side = weight->side;
    const int col = fetching->ahead.col;
    const float *next = weight->blocks[row * weight->grid_cols + col / side] + col % side;
    for (int line = fetching->index; line < depth; line += fetching->count)
        fetch_row(next + (k + line) * side);
}

/* One tile over all of k: raw sums, to y. */
INLINE void tile(const int rows, const float *x, ptrdiff_t x_stride, const struct matrix *weight,
                 int col, const struct fetching *fetching, float *y, ptrdiff_t y_stride) {
    const int side = weight->side, step = fetch_every(fetching, side);
    vec sums[ROWS][COLUMNS] = {0};
    for (int i = 0, from = 0; from < weight->rows; i++, from += side) {
        const int depth = weight->rows - from < side ? weight->rows - from : side;
        const float *w = weight->blocks[i * weight->grid_cols + col / side] + col % side;
        for (int k = 0; k < depth; k += step) {
            const int some = depth - k < step ? depth - k : step;
            fetch_some(fetching, i, k, some);
            accumulate(rows, sums, x + from + k, x_stride, w + k * side, side, some);
        }
    }
    store_tile(rows, sums, y, y_stride);
}

/* The same without blocks: W [depth, .] lies in one piece. */
INLINE void small_tile(const int rows, const float *x, ptrdiff_t x_stride, const float *w,
                       ptrdiff_t w_stride, int depth, float *y, ptrdiff_t y_stride) {
    vec sums[ROWS][COLUMNS] = {0};
    accumulate(rows, sums, x, x_stride, w, w_stride, depth);
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
#if ROWS == 12
TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
#define BY_ROWS(name)                                                                     \
    {NULL, name##_1, name##_2, name##_3, name##_4,  name##_5,  name##_6,                  \
           name##_7, name##_8, name##_9, name##_10, name##_11, name##_12}
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

/* One strip of columns for all rows. Rows are spread evenly over tiles: 13 are 7 + 6, not 12 + 1. */
static void product(const struct product *p, int strip_index, struct ahead ahead) {
    const int col = strip_index * COLUMNS * VECTOR;
    struct fetching fetching = {ahead, (p->count + ROWS - 1) / ROWS, 0};
    if (!ahead.weight || ahead.weight->side != p->weight->side)
        fetching.ahead = (struct ahead){p->weight, col};
    for (int row = 0; fetching.index < fetching.count; fetching.index++) {
        int rows = (int)((int64_t)p->count * (fetching.index + 1) / fetching.count) - row;
        float *y = p->y + row * p->y_stride + col;
        const float *residual = p->residual ? p->residual + row * p->y_stride + col : NULL;
        tiles[rows](p->x + row * p->x_stride, p->x_stride, p->weight, col, &fetching, y, p->y_stride);
        finish(p, y, residual, col, rows);
        row += rows;
    }
}

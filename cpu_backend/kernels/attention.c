/* Attention of one head within one sequence; scores never leave the cache.
 *
 * Included by each variant_*.c, behind matmul_f32.c. Keys are turned round once, and then ROWS
 * queries at a time:
 *
 *      scores [ROWS, length] = q k^T   ->   softmax   ->   y [ROWS, width] = scores v
 *
 * both products by the tile of matmul_f32.c. No padding: nothing of another sequence is read.
 */

#define INFINITE __builtin_inff()

enum { STRIP = COLUMNS * VECTOR };

INLINE int round_up(int x, int to) { return (x + to - 1) / to * to; }

/* Enough for attention16 as well. */
static size_t attention_scratch(int length, int width) {
    size_t padded = (size_t)round_up(length, STRIP < 32 ? 32 : STRIP);
    size_t wide = (size_t)round_up(width, STRIP < 32 ? 32 : STRIP);
    return padded * (size_t)width + (size_t)(length + 1) * wide + ROWS * (2 * padded + wide);
}

/* to [cols, .] = from [rows, cols] turned round, with zeros up to `padded` columns. */
static void turn(const uint32_t *from, ptrdiff_t stride, int rows, int cols, uint32_t *to,
                 ptrdiff_t to_stride, int padded) {
    typedef uint32_t quad __attribute__((vector_size(16)));
    typedef quad loose_quad __attribute__((aligned(4), may_alias));
    int i = 0;
    for (; i + 4 <= rows; i += 4) {
        const uint32_t *row = from + i * stride;
        int j = 0;
        for (; j + 4 <= cols; j += 4) {
            quad a = *(const loose_quad *)(row + j), b = *(const loose_quad *)(row + stride + j);
            quad c = *(const loose_quad *)(row + 2 * stride + j);
            quad d = *(const loose_quad *)(row + 3 * stride + j);
            quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
            quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            uint32_t *column = to + j * to_stride + i;
            *(loose_quad *)column = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(loose_quad *)(column + to_stride) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(loose_quad *)(column + 2 * to_stride) =
                __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
            *(loose_quad *)(column + 3 * to_stride) =
                __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
        }
        for (; j < cols; j++)
            for (int r = 0; r < 4; r++) to[j * to_stride + i + r] = row[r * stride + j];
    }
    for (int j = 0; j < cols; j++) {
        for (int r = i; r < rows; r++) to[j * to_stride + r] = from[r * stride + j];
        for (int r = rows; r < padded; r++) to[j * to_stride + r] = 0;
    }
}

static void gather_values(const struct attention *a, float *values, int wide) {
    for (int j = 0; j < a->length; j++) {
        memcpy(values + j * wide, a->v + j * a->stride, sizeof(float) * (size_t)a->width);
        memset(values + j * wide + a->width, 0, sizeof(float) * (size_t)(wide - a->width));
    }
}

/* Add the bias of relative positions, and leave out what lies outside of the window. */
static void shift_scores(const struct attention *a, float *scores, int i, float scale) {
    for (int j = 0; j < a->length; j += VECTOR) {
        vec x = load(scores + j) * scale;
        if (a->bias) x += load_part(a->bias + j - i, a->length - j);
        store(scores + j, x);
    }
    if (a->window >= 0)
        for (int j = 0; j < a->length; j++)
            if (j - i > a->window / 2 || i - j > a->window / 2) scores[j] = -INFINITE;
}

/* Exponentials of one row of scores, in place, zeros behind them up to a whole vector; returns one
 * over their sum. */
static float exponentials(const struct attention *a, float *scores, int i) {
    float scale = 1.0f / __builtin_sqrtf((float)a->width);
    if (a->bias || a->window >= 0) {
        shift_scores(a, scores, i, scale);
        scale = 1.0f;
    }
    vec high = splat(-INFINITE), total = {0};
    for (int j = 0; j < a->length; j += VECTOR) {
        const vec x = load(scores + j);
        high = maximum(high, a->length - j < VECTOR ? first_of(x, a->length - j, -INFINITE) : x);
    }
    const float top = largest(high);
    for (int j = 0; j < a->length; j += VECTOR) {
        vec x = exponential((load(scores + j) - top) * scale);
        if (a->length - j < VECTOR) x = first_of(x, a->length - j, 0);
        total += x;
        store(scores + j, x);
    }
    return 1.0f / sum(total);
}

/* scores [rows, padded] = q k^T, or y [rows, wide] = scores v: products without blocks. */
static void small_product(int rows, const float *x, ptrdiff_t x_stride, const float *w,
                          ptrdiff_t w_stride, int depth, int cols, float *y, ptrdiff_t y_stride) {
    for (int col = 0; col < cols; col += STRIP)
        small_tiles[rows](x, x_stride, w + col, w_stride, depth, y + col, y_stride);
}

static void attention(const struct attention *a) {
    const int padded = round_up(a->length, STRIP), wide = round_up(a->width, STRIP);
    const int in_place = wide == a->width; /* whole strips: no need to bring values together */
    float *keys = a->scratch, *values = keys + (size_t)padded * (size_t)a->width;
    float *scores = values + (size_t)a->length * (size_t)wide, *mixed = scores + ROWS * padded;
    float over[ROWS];
    turn((const uint32_t *)a->k, a->stride, a->length, a->width, (uint32_t *)keys, padded, padded);
    if (!in_place) gather_values(a, values, wide);
    const int count = (a->length + ROWS - 1) / ROWS;
    for (int n = 0, row = 0; n < count; n++) {
        const int rows = a->length * (n + 1) / count - row;
        float *y = a->y + row * a->y_stride;
        small_product(rows, a->q + row * a->stride, a->stride, keys, padded, a->width, padded, scores,
                      padded);
        for (int r = 0; r < rows; r++) over[r] = exponentials(a, scores + r * padded, row + r);
        small_product(rows, scores, padded, in_place ? a->v : values, in_place ? a->stride : wide,
                      a->length, wide, mixed, wide);
        for (int r = 0; r < rows; r++)
            for (int t = 0; t < a->width; t++) y[r * a->y_stride + t] = mixed[r * wide + t] * over[r];
        row += rows;
    }
}

/* Attention of one head within one sequence; scores never leave the cache.
 *
 * Included by each variant_*.c, behind matmul_f32.c. Keys are turned round once, values are
 * brought together, and then ROWS queries at a time:
 *
 *      scores [ROWS, length] = q k^T   ->   softmax   ->   y [ROWS, width] = scores v
 *
 * both products by the tile of matmul_f32.c. No padding: nothing of another sequence is read.
 */

#define INFINITE __builtin_inff()

INLINE int round_up(int x, int to) { return (x + to - 1) / to * to; }

static size_t attention_scratch(int length, int width) {
    const int strip = COLUMNS * VECTOR;
    size_t padded = (size_t)round_up(length, strip), wide = (size_t)round_up(width, strip);
    return padded * (size_t)width + (size_t)length * wide + ROWS * (padded + wide);
}

static void turn_keys(const struct attention *a, float *keys, int padded) {
    for (int t = 0; t < a->width; t++) {
        for (int j = 0; j < a->length; j++) keys[t * padded + j] = a->k[j * a->stride + t];
        for (int j = a->length; j < padded; j++) keys[t * padded + j] = 0;
    }
}

static void gather_values(const struct attention *a, float *values, int wide) {
    for (int j = 0; j < a->length; j++) {
        memcpy(values + j * wide, a->v + j * a->stride, sizeof(float) * (size_t)a->width);
        memset(values + j * wide + a->width, 0, sizeof(float) * (size_t)(wide - a->width));
    }
}

/* Exponentials of one row of scores, in place, zeros behind them; returns one over their sum. */
static float exponentials(const struct attention *a, float *scores, int i) {
    const float scale = 1.0f / __builtin_sqrtf((float)a->width);
    const int whole = round_up(a->length, VECTOR);
    vec high = splat(-INFINITE), total = {0};
    for (int j = 0; j < a->length; j += VECTOR) {
        vec x = load(scores + j) * scale;
        if (a->bias) x += load_part(a->bias + j - i, a->length - j);
        store(scores + j, x);
    }
    if (a->window >= 0)
        for (int j = 0; j < a->length; j++)
            if (j - i > a->window / 2 || i - j > a->window / 2) scores[j] = -INFINITE;
    for (int j = a->length; j < whole; j++) scores[j] = -INFINITE;
    for (int j = 0; j < whole; j += VECTOR) high = maximum(high, load(scores + j));
    const float top = largest(high);
    for (int j = 0; j < whole; j += VECTOR) {
        vec x = exponential(load(scores + j) - top);
        if (a->length - j < VECTOR) x = cut(x, a->length - j);
        total += x;
        store(scores + j, x);
    }
    return 1.0f / sum(total);
}

/* scores [rows, padded] = q k^T, or y [rows, wide] = scores v: products without blocks. */
static void small_product(int rows, const float *x, ptrdiff_t x_stride, const float *w, int depth,
                          int cols, float *y) {
    for (int col = 0; col < cols; col += COLUMNS * VECTOR)
        small_tiles[rows](x, x_stride, w + col, cols, depth, y + col, cols);
}

static void attention(const struct attention *a) {
    const int strip = COLUMNS * VECTOR;
    const int padded = round_up(a->length, strip), wide = round_up(a->width, strip);
    float *keys = a->scratch, *values = keys + (size_t)padded * (size_t)a->width;
    float *scores = values + (size_t)a->length * (size_t)wide, *mixed = scores + ROWS * padded;
    float over[ROWS];
    turn_keys(a, keys, padded);
    gather_values(a, values, wide);
    const int count = (a->length + ROWS - 1) / ROWS;
    for (int n = 0, row = 0; n < count; n++) {
        int rows = a->length * (n + 1) / count - row;
        small_product(rows, a->q + row * a->stride, a->stride, keys, a->width, padded, scores);
        for (int r = 0; r < rows; r++) over[r] = exponentials(a, scores + r * padded, row + r);
        small_product(rows, scores, padded, values, a->length, wide, mixed);
        for (int r = 0; r < rows; r++)
            for (int t = 0; t < a->width; t++)
                a->y[(row + r) * a->y_stride + t] = mixed[r * wide + t] * over[r];
        row += rows;
    }
}

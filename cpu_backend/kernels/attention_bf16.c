/* The same attention in bfloat16, softmax in float32; scores never leave the cache.
 *
 * Included by each variant_*.c whose processor multiplies bfloat16. Keys and values are laid out as
 * the panels that matmul_bf16.c reads:
 *
 *      keys    32 keys to a panel, its lines pairs of columns       scores = q keys
 *      values  32 columns to a panel, its lines pairs of tokens     y = softmax(scores) values
 */
#if HAS_BF16
#define ATTENTION16 attention16
/* Pairs of rows of v, 32 columns, element by element in turn; zeros past the last row. */
static void pair_values(const struct attention *a, int col, uint16_t *to) {
    const int cols = a->width - col < PANEL ? a->width - col : PANEL;
    const uint16_t nothing[PANEL] = {0};
    for (int j = 0; j < a->length; j += 2, to += 2 * PANEL) {
        const uint16_t *even = a->v16 + j * a->stride + col;
        const uint16_t *odd = j + 1 < a->length ? even + a->stride : nothing;
        if (cols == PANEL)
            for (int c = 0; c < PANEL; c++) to[2 * c] = even[c], to[2 * c + 1] = odd[c];
        else {
            memset(to, 0, 2 * PANEL * sizeof *to);
            for (int c = 0; c < cols; c++) to[2 * c] = even[c], to[2 * c + 1] = odd[c];
        }
    }
}

static void scale_to_half(const struct attention *a, const float *mixed, float over, int row, int col) {
    const int cols = a->width - col < PANEL ? a->width - col : PANEL;
    float line[PANEL];
    for (int c = 0; c < PANEL; c += VECTOR) store(line + c, load(mixed + c) * over);
    narrow(line, a->y16 + row * a->y_stride + col, cols);
}

static void attention16(const struct attention *a) {
    const int padded = round_up(a->length, PANEL), even = round_up(a->length, 2);
    const int wide = round_up(a->width, PANEL);
    uint16_t *keys = (uint16_t *)a->scratch, *values = keys + (size_t)padded * (size_t)a->width;
    uint16_t *weights = values + (size_t)even * (size_t)wide; /* [ROWS, padded] */
    float *scores = (float *)(weights + ROWS * padded);       /* [ROWS, padded] */
    float mixed[ROWS * PANEL], over[ROWS];
    for (int j = 0; j < a->length; j += PANEL)
        turn((const uint32_t *)(a->k16 + j * a->stride), a->stride / 2,
             a->length - j < PANEL ? a->length - j : PANEL, a->width / 2,
             (uint32_t *)(keys + j * a->width), PANEL, PANEL);
    for (int col = 0; col < wide; col += PANEL) pair_values(a, col, values + col * even);
    const int count = (a->length + ROWS - 1) / ROWS;
    for (int n = 0, row = 0; n < count; n++) {
        const int rows = a->length * (n + 1) / count - row;
        for (int j = 0; j < padded; j += PANEL)
            dot_rows(rows, a->q16 + row * a->stride, a->stride, keys + j * a->width, a->width,
                     scores + j, padded);
        for (int r = 0; r < rows; r++) {
            over[r] = exponentials(a, scores + r * padded, row + r);
            narrow(scores + r * padded, weights + r * padded, round_up(a->length, VECTOR));
        }
        for (int col = 0; col < wide; col += PANEL) {
            dot_rows(rows, weights, padded, values + col * even, even, mixed, PANEL);
            for (int r = 0; r < rows; r++) scale_to_half(a, mixed + r * PANEL, over[r], row + r, col);
        }
        row += rows;
    }
}
#else
#define ATTENTION16 NULL
#endif

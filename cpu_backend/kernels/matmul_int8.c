/* The product of bytes with bytes, sums in int32: exact, and so the same by every variant.
 *
 * Included by each variant_*.c. Activations are unsigned, with a step and a zero for each row, weights
 * signed, with a step for each column:
 *
 *      y = sum_k (x - zero) w  step_x step_w = (sum_k x w  -  zero sum_k w)  step_x step_w
 *
 *      panel   w[0..3,0]  w[0..3,1]  ...  w[0..3,31]      128 bytes: what vpdpbusd and AMX multiply
 *              w[4..7,0]  ...                             depth / 4 such lines, then a panel_end
 */
#if HAS_VNNI
/* Written out, since GCC 12 moves the sums of the intrinsic between registers and the stack. */
#define ADD_PRODUCTS(sums, x, w) \
    __asm__("vpdpbusd %[weights], %[bytes], %[y]" : [y] "+v"(sums) : [bytes] "v"(x), [weights] "v"(w))

INLINE void byte_tile(const int rows, const uint8_t *x, ptrdiff_t x_stride, const int8_t *panel,
                      int depth, int32_t *sums) {
    __m512i y[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) y[r][0] = y[r][1] = _mm512_setzero_si512();
    for (int k = 0; k < depth; k += 4, panel += 4 * PANEL) {
        const __m512i w0 = _mm512_loadu_si512(panel), w1 = _mm512_loadu_si512(panel + 2 * PANEL);
        __builtin_prefetch(panel + 128 * PANEL, 0, 2);
        __builtin_prefetch(panel + 130 * PANEL, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            int four;
            memcpy(&four, x + r * x_stride + k, 4);
            const __m512i xk = _mm512_set1_epi32(four);
            ADD_PRODUCTS(y[r][0], xk, w0);
            ADD_PRODUCTS(y[r][1], xk, w1);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_si512(sums + r * PANEL, y[r][0]);
        _mm512_storeu_si512(sums + r * PANEL + 16, y[r][1]);
    }
}
enum { BYTE_ROWS = ROWS };
#else
enum { BYTE_ROWS = 4 };

INLINE void byte_tile(const int rows, const uint8_t *x, ptrdiff_t x_stride, const int8_t *panel,
                      int depth, int32_t *sums) {
    for (int from = 0; from < PANEL; from += VECTOR) {
        ivec y[BYTE_ROWS] = {0};
        const int8_t *w = panel + 4 * from;
        for (int k = 0; k < depth; k += 4, w += 4 * PANEL) {
            const uvec fours = load_pairs((const uint16_t *)w);
            const ivec w0 = (ivec)(fours << 24) >> 24, w1 = (ivec)(fours << 16) >> 24;
            const ivec w2 = (ivec)(fours << 8) >> 24, w3 = (ivec)fours >> 24;
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                const uint8_t *four = x + r * x_stride + k;
                y[r] += w0 * four[0] + w1 * four[1] + w2 * four[2] + w3 * four[3];
            }
        }
        for (int r = 0; r < rows; r++) memcpy(sums + r * PANEL + from, &y[r], sizeof y[r]);
    }
}
#endif

/* What the sums of integers mean, in place. */
static void rescale(int32_t *sums, int rows, const struct scale *scales, const struct panel_end *end) {
    for (int r = 0; r < rows; r++, sums += PANEL)
        for (int c = 0; c < PANEL; c++) {
            const float y = (float)(sums[c] - scales[r].zero * end->sum[c]);
            const float real = y * (scales[r].step * end->step[c]);
            memcpy(sums + c, &real, sizeof real);
        }
}

static void byte_rows(int rows, const uint8_t *x, ptrdiff_t x_stride, const int8_t *panel, int depth,
                      int32_t *sums) {
    switch (rows) {
#define BYTES_OF(R) case R: byte_tile(R, x, x_stride, panel, depth, sums); break;
    BYTES_OF(1) BYTES_OF(2) BYTES_OF(3) BYTES_OF(4)
#if HAS_VNNI
    BYTES_OF(5) BYTES_OF(6) BYTES_OF(7) BYTES_OF(8) BYTES_OF(9) BYTES_OF(10) BYTES_OF(11)
    BYTES_OF(12) BYTES_OF(13) BYTES_OF(14)
#endif
    }
}

static void finish_bytes(const struct panel_product *p, int32_t *sums, int row, int index, int rows,
                         const struct panel_end *end) {
    rescale(sums, rows, p->scales + row, end);
    finish_panel(p, (const float *)sums, row, index * PANEL, rows);
}

static void product8_by_vectors(const struct panel_product *p, int index, const int8_t *panel,
                                const struct panel_end *end) {
    int32_t sums[BYTE_ROWS * PANEL] __attribute__((aligned(64)));
    const int count = (p->count + BYTE_ROWS - 1) / BYTE_ROWS;
    for (int i = 0, row = 0; i < count; i++) {
        const int rows = (int)((int64_t)p->count * (i + 1) / count) - row;
        byte_rows(rows, p->x8 + row * p->x_stride, p->x_stride, panel, p->depth, sums);
        finish_bytes(p, sums, row, index, rows, end);
        row += rows;
    }
}

#if HAS_AMX
/* As in matmul_bf16.c, 64 of k at a time. */
static void product8_by_tiles(const struct panel_product *p, int index, const int8_t *panel,
                              const struct panel_end *end) {
    const ptrdiff_t line_bytes = 4 * PANEL;
    int32_t sums[32 * PANEL] __attribute__((aligned(64)));
    _tile_loadconfig(&tiles_of_16);
    for (int row = 0; row < p->count; row += 32) {
        const uint8_t *x = p->x8 + row * p->x_stride;
        const int8_t *w = panel;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int k = 0; k < p->depth; k += 64, w += 64 * PANEL) {
            _tile_loadd(6, w, line_bytes);
            _tile_loadd(4, x + k, p->x_stride);
            _tile_dpbusd(0, 4, 6);
            _tile_loadd(7, w + 2 * PANEL, line_bytes);
            _tile_dpbusd(1, 4, 7);
            _tile_loadd(5, x + 16 * p->x_stride + k, p->x_stride);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
        _tile_stored(0, sums, line_bytes);
        _tile_stored(1, sums + 16, line_bytes);
        _tile_stored(2, sums + 16 * PANEL, line_bytes);
        _tile_stored(3, sums + 16 * PANEL + 16, line_bytes);
        finish_bytes(p, sums, row, index, p->count - row < 32 ? p->count - row : 32, end);
    }
    _tile_release();
}
#endif

static void product8(const struct panel_product *p, int index) {
    const char *panel = (const char *)p->panels + (size_t)index * panel_bytes(INT8, p->depth);
    const struct panel_end *end = (const struct panel_end *)(panel + (size_t)p->depth * PANEL);
#if HAS_AMX
    if (p->depth % 64 == 0) {
        product8_by_tiles(p, index, (const int8_t *)panel, end);
        return;
    }
#endif
    product8_by_vectors(p, index, (const int8_t *)panel, end);
}

/* Write a row in bytes: the step that takes the whole row in, and which byte stands for zero. */
static void quantize(const uint16_t *from, uint8_t *to, int count, struct scale *scale) {
    typedef uint8_t bytes __attribute__((vector_size(VECTOR)));
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    vec low = {0}, high = {0};
    for (int c = 0; c < count; c += VECTOR) {
        const vec x = load_half(from + c);
        low = maximum(low, -x);
        high = maximum(high, x);
    }
    const float below = largest(low), range = below + largest(high);
    const float over = range > 0 ? 255.0f / range : 0.0f;
    const float zero = below * over + magic - magic;
    scale->step = range / 255.0f;
    scale->zero = (int32_t)zero;
    for (int c = 0; c < count; c += VECTOR) {
        const vec x = minimum(maximum(load_half(from + c) * over + zero, splat(0.0f)), splat(255.0f));
        const bytes y = __builtin_convertvector((uvec)(x + magic) & 255, bytes);
        memcpy(to + c, &y, sizeof y);
    }
}

/* The product of bfloat16 activations with bfloat16 weights, sums in float32.
 *
 * Included by each variant_*.c. Weights are panels of 32 columns, rows in pairs (what vdpbf16ps and
 * AMX multiply), so that a panel is one stream of memory:
 *
 *      panel   w[0,0] w[1,0]  w[0,1] w[1,1]  ...  w[0,31] w[1,31]      128 bytes
 *              w[2,0] w[3,0]  ...                                      depth / 2 such lines
 *
 * Three ways through it, chosen by what the including file allows: tiles of AMX (32 rows x 32
 * columns, as below), vdpbf16ps (ROWS x 2 vectors, as in matmul_f32.c), or plain multiply-adds after
 * widening.
 *
 *                 B6  B7     pairs of rows of the panel, 16 columns each
 *            A4   C0  C1     16 rows of x by 32 of k, as they lie
 *            A5   C2  C3     sums of 16 rows x 16 columns
 */

/* Sums of `rows` rows and 32 columns, to sums [rows, .]. */
#if HAS_BF16
INLINE void dot_tile(const int rows, const uint16_t *x, ptrdiff_t x_stride, const uint16_t *panel,
                     int depth, float *sums, ptrdiff_t stride) {
    __m512 y[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) y[r][0] = y[r][1] = _mm512_setzero_ps();
    for (int k = 0; k < depth; k += 2, panel += 2 * PANEL) {
        __m512bh w0 = (__m512bh)_mm512_loadu_ps((const float *)panel);
        __m512bh w1 = (__m512bh)_mm512_loadu_ps((const float *)(panel + PANEL));
        __builtin_prefetch(panel + 64 * PANEL, 0, 2);
        __builtin_prefetch(panel + 65 * PANEL, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            int pair;
            memcpy(&pair, x + r * x_stride + k, 4);
            __m512bh xk = (__m512bh)_mm512_set1_epi32(pair);
            y[r][0] = _mm512_dpbf16_ps(y[r][0], xk, w0);
            y[r][1] = _mm512_dpbf16_ps(y[r][1], xk, w1);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(sums + r * stride, y[r][0]);
        _mm512_storeu_ps(sums + r * stride + 16, y[r][1]);
    }
}
enum { DOT_ROWS = ROWS };
#else
/* Half a panel at a time, in vectors of columns: even and odd rows of a pair, widened. */
enum { DOT_ROWS = 4, HALF = PANEL / VECTOR > 4 ? 4 : PANEL / VECTOR };

INLINE float widen_one(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

INLINE void dot_tile(const int rows, const uint16_t *x, ptrdiff_t x_stride, const uint16_t *panel,
                     int depth, float *sums, ptrdiff_t stride) {
    for (int from = 0; from < PANEL; from += VECTOR) {
        vec y[DOT_ROWS] = {0};
        const uint16_t *w = panel + 2 * from;
        for (int k = 0; k < depth; k += 2, w += 2 * PANEL) {
            uvec pairs = load_pairs(w);
            vec even = (vec)(pairs << 16), odd = (vec)(pairs & 0xffff0000);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                y[r] += even * widen_one(x[r * x_stride + k]);
                y[r] += odd * widen_one(x[r * x_stride + k + 1]);
            }
        }
        for (int r = 0; r < rows; r++) store(sums + r * stride + from, y[r]);
    }
}
#endif

static void dot_rows(int rows, const uint16_t *x, ptrdiff_t x_stride, const uint16_t *panel,
                     int depth, float *sums, ptrdiff_t stride) {
    switch (rows) {
#define DOT(R) case R: dot_tile(R, x, x_stride, panel, depth, sums, stride); break;
    DOT(1) DOT(2) DOT(3) DOT(4)
#if HAS_BF16
    DOT(5) DOT(6) DOT(7) DOT(8) DOT(9) DOT(10) DOT(11) DOT(12)
    DOT(13) DOT(14)
#endif
    }
}

#if HAS_AMX
static void product16(const struct panel_product *p, int index) {
    const uint16_t *panel = (const uint16_t *)p->panels + (ptrdiff_t)index * p->depth * PANEL;
    const ptrdiff_t x_bytes = p->x_stride * 2, line_bytes = 4 * PANEL;
    float sums[32 * PANEL] __attribute__((aligned(64)));
    _tile_loadconfig(&tiles_of_16);
    for (int row = 0; row < p->count; row += 32) {
        const int rows = p->count - row < 32 ? p->count - row : 32;
        const uint16_t *x = p->x16 + row * p->x_stride, *w = panel;
        _tile_zero(0);
        _tile_zero(1);
        if (rows > 16) {
            _tile_zero(2);
            _tile_zero(3);
            for (int k = 0; k < p->depth; k += 32, w += 32 * PANEL) {
                _tile_loadd(6, w, line_bytes);
                _tile_loadd(4, x + k, x_bytes);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, w + PANEL, line_bytes);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, x + 16 * p->x_stride + k, x_bytes);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(2, sums + 16 * PANEL, line_bytes);
            _tile_stored(3, sums + 16 * PANEL + 16, line_bytes);
        } else {
            for (int k = 0; k < p->depth; k += 32, w += 32 * PANEL) {
                for (int line = 0; line < 32; line++)
                    __builtin_prefetch(w + 128 * PANEL + line * 32, 0, 2);
                _tile_loadd(4, x + k, x_bytes);
                _tile_loadd(6, w, line_bytes);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, w + PANEL, line_bytes);
                _tile_dpbf16ps(1, 4, 7);
            }
        }
        _tile_stored(0, sums, line_bytes);
        _tile_stored(1, sums + 16, line_bytes);
        finish_panel(p, sums, row, index * PANEL, rows);
    }
    _tile_release();
}
#else
static void product16(const struct panel_product *p, int index) {
    const uint16_t *panel = (const uint16_t *)p->panels + (ptrdiff_t)index * p->depth * PANEL;
    float sums[DOT_ROWS * PANEL] __attribute__((aligned(64)));
    const int count = (p->count + DOT_ROWS - 1) / DOT_ROWS;
    for (int i = 0, row = 0; i < count; i++) {
        const int rows = (int)((int64_t)p->count * (i + 1) / count) - row;
        dot_rows(rows, p->x16 + row * p->x_stride, p->x_stride, panel, p->depth, sums, PANEL);
        finish_panel(p, sums, row, index * PANEL, rows);
        row += rows;
    }
}
#endif

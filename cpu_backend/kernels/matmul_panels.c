/* What products by panels of weights share: bfloat16, and what is done to the sums.
 *
 * Included by each variant_*.c. A panel is 32 columns wide and one stream of memory (panels.c); a
 * tile of sums [rows, PANEL] is finished while it is in the first-level cache.
 */
enum { PANEL = PANEL_COLUMNS };

typedef uint32_t uvec __attribute__((vector_size(4 * VECTOR)));
typedef uvec loose_uvec __attribute__((aligned(2), may_alias));

INLINE uvec load_pairs(const uint16_t *from) { return *(const loose_uvec *)from; }

/* VECTOR numbers in bfloat16. */
INLINE vec load_half(const uint16_t *from) {
    typedef uint16_t halves __attribute__((vector_size(2 * VECTOR)));
    halves x;
    memcpy(&x, from, sizeof x);
    return (vec)(__builtin_convertvector(x, uvec) << 16);
}

/* Round to bfloat16, to even; a NaN stays one. */
INLINE uint16_t narrow_one(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE void store_half(uint16_t *to, vec x) {
#if HAS_BF16
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    for (int i = 0; i < VECTOR; i++) to[i] = narrow_one(x[i]);
#endif
}

static void narrow(const float *from, uint16_t *to, int count) {
    int i = 0;
    for (; i + VECTOR <= count; i += VECTOR) store_half(to + i, load(from + i));
    for (; i < count; i++) to[i] = narrow_one(from[i]);
}

/* Activations whose errors are small beside those of the products. */
INLINE vec activate_near(vec x, const enum activation activation) {
    return activation == GELU ? gelu_near(x) : activate(x, activation);
}

INLINE void finish_panel_with(const struct panel_product *p, const float *sums, int row, int col,
                              int rows, const enum activation activation) {
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (row + r) * p->y_stride + col;
        for (int c = 0; c < PANEL; c += VECTOR) {
            vec y = activate_near(load(sums + r * PANEL + c) + load(p->bias + col + c), activation);
            if (p->residual) y += load(p->residual + at + c);
            if (p->y) store(p->y + at + c, y);
            else store_half(p->y16 + at + c, y);
        }
    }
}

static void finish_panel(const struct panel_product *p, const float *sums, int row, int col,
                         int rows) {
    switch (p->activation) {
    case GELU: finish_panel_with(p, sums, row, col, rows, GELU); break;
    case GELU_TANH: finish_panel_with(p, sums, row, col, rows, GELU_TANH); break;
    case RELU: finish_panel_with(p, sums, row, col, rows, RELU); break;
    default: finish_panel_with(p, sums, row, col, rows, NO_ACTIVATION);
    }
}

#if HAS_AMX
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static const struct tile_config tiles_of_16 = {.palette = 1,
                                               .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                               .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
#endif

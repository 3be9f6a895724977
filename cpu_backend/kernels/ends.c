/* Where sub-layers end, as tasks have it: bottlenecks, and norms of their own. Included by each
 * variant_*.c, behind edits.c. */

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
    const float *x = e->x + start * e->stride;
    const float *residual = e->residual ? e->residual + start * e->stride : NULL;
    *found = e->stride;
    if (state == RESIDUAL && residual) return residual;
    if (state == PRODUCT || (state == RESIDUAL && !residual)) return x;
    if (state == ADDED && !residual) return x;
    *found = stride;
    for (int r = 0; r < count; r++) {
        if (residual) add_vectors(own + r * stride, x + r * e->stride, residual + r * e->stride, e->width);
        else memcpy(own + r * stride, x + r * e->stride, (size_t)e->width * sizeof(float));
    }
    if (state == NORMED && norm->weight) norm_rows(own, stride, own, stride, count, e->width, norm);
    return own;
}

/* a(input) + base, for up to END_ROWS rows, in lines of width_stride. */
static const float *apply_bottleneck(const struct ending *e, const struct bottleneck *b, int start,
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
        float *row = out + r * wide;
        add_vectors(row, row, b->up_bias, e->width);
        if (b->base_before_norm) add_vectors(row, row, base + r * base_stride, e->width);
        if (b->after.weight) norm_rows(row, wide, row, wide, 1, e->width, &b->after);
        if (!b->base_before_norm) add_vectors(row, row, base + r * base_stride, e->width);
    }
    return out;
}

/* End a sub-layer for `count` rows, at most END_ROWS of them. */
static void end_rows(const struct ending *e, const struct end_edits *edits, int start, int count) {
    const struct norm_parameters *norm = edits && edits->norm.weight ? &edits->norm : &e->norm;
    const struct bottleneck *bottleneck = edits ? edits->bottleneck : NULL;
    const float *x = e->x + start * e->stride;
    ptrdiff_t stride = e->stride;
    if (bottleneck) x = apply_bottleneck(e, bottleneck, start, count, norm), stride = bottleneck->width_stride;
    const int ends = !bottleneck || bottleneck->closes;
    for (int r = 0; r < count; r++, x += stride) {
        const ptrdiff_t at = (start + r) * e->stride;
        float *y = e->y + at;
        if (ends && e->residual) add_vectors(y, x, e->residual + at, e->width);
        else if (x != y) memcpy(y, x, (size_t)e->width * sizeof(float));
        if (ends && norm->weight) norm_rows(y, 0, y, 0, 1, e->width, norm);
    }
}

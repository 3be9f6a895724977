/* What is done to whole rows: layer norm, sums of embeddings, pooling, scaling to length one.
 *
 * Included by each variant_*.c. A row is read in vectors, its last part filled up with zeros.
 */

/* Normalise a row (Ba et al. 2016); y may be x. */
static void layer_norm(const float *x, float *y, int width, const float *weight, const float *bias,
                       float eps) {
    vec total = {0}, squares = {0};
    for (int c = 0; c < width; c += VECTOR) total += load_part(x + c, width - c);
    const float mean = sum(total) / (float)width;
    for (int c = 0; c < width; c += VECTOR) {
        vec centred = load_part(x + c, width - c) - mean;
        if (width - c < VECTOR) centred = first_of(centred, width - c, 0);
        squares += centred * centred;
    }
    const float over = 1.0f / __builtin_sqrtf(sum(squares) / (float)width + eps);
    for (int c = 0; c < width; c += VECTOR) {
        int left = width - c;
        vec centred = (load_part(x + c, left) - mean) * over;
        store_part(y + c, centred * load_part(weight + c, left) + load_part(bias + c, left), left);
    }
}

/* y = the sum of `count` rows, added in order. */
static void add_rows(float *y, const float *const *rows, int count, int width) {
    for (int c = 0; c < width; c += VECTOR) {
        vec total = load_part(rows[0] + c, width - c);
        for (int i = 1; i < count; i++) total += load_part(rows[i] + c, width - c);
        store_part(y + c, total, width - c);
    }
}

static void mean_rows(const float *x, ptrdiff_t stride, int count, int width, float *y) {
    const float over = 1.0f / (float)count;
    for (int c = 0; c < width; c += VECTOR) {
        vec total = {0};
        for (int r = 0; r < count; r++) total += load_part(x + r * stride + c, width - c);
        store_part(y + c, total * over, width - c);
    }
}

/* Scale a row to length one; a zero row stays zero. */
static void normalize(const float *x, float *y, int width) {
    vec squares = {0};
    for (int c = 0; c < width; c += VECTOR) {
        vec row = load_part(x + c, width - c);
        squares += row * row;
    }
    const float length = __builtin_sqrtf(sum(squares));
    const float over = 1.0f / (length > 1e-12f ? length : 1e-12f);
    for (int c = 0; c < width; c += VECTOR)
        store_part(y + c, load_part(x + c, width - c) * over, width - c);
}

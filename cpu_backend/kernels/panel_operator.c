/* One product by panels over buffers, as a pass computes it: what single kernels are tested by. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"

#include <stdlib.h>

/* Rows as a pass keeps them: in bfloat16 and, for INT8, in bytes; whole tiles of 32 rows. */
struct narrowed {
    uint16_t *half;
    uint8_t *bytes;
    struct scale *scales;
};

static int make_narrowed(struct narrowed *rows, size_t count, size_t depth) {
    const size_t whole = (count + 31) / 32 * 32;
    rows->half = calloc(whole * depth + 32, sizeof *rows->half);
    rows->bytes = calloc(whole * depth + 64, 1);
    rows->scales = calloc(whole + 1, sizeof *rows->scales);
    return rows->half && rows->bytes && rows->scales;
}

static void free_narrowed(struct narrowed *rows) {
    free(rows->half);
    free(rows->bytes);
    free(rows->scales);
}

static void narrow_rows(const struct variant *variant, const float *x, int count, int depth,
                        struct narrowed *to) {
    for (int r = 0; r < count; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * depth;
        variant->narrow(x + at, to->half + at, depth);
        variant->quantize(to->half + at, to->bytes + at, depth, to->scales + r);
    }
}

static int multiply(const struct variant *variant, enum form form, int cols,
                    struct panel_product *product, const float *x) {
    struct narrowed rows = {NULL, NULL, NULL};
    const int good = make_narrowed(&rows, (size_t)product->count, (size_t)product->depth);
    if (good) narrow_rows(variant, x, product->count, product->depth, &rows);
    product->x16 = rows.half;
    product->x8 = rows.bytes;
    product->scales = rows.scales;
    for (int panel = 0; good && panel < cols / PANEL_COLUMNS; panel++)
        (form == INT8 ? variant->product8 : variant->product16)(product, panel);
    free_narrowed(&rows);
    return good;
}

/* panel_product(variant, form, x, rows, depth, cols, panels, bias, y): y = x W + bias */
PyObject *panel_product(PyObject *module, PyObject *arguments) {
    (void)module;
    const char *name;
    int form, count, depth, cols;
    Py_buffer x, panels, bias, y;
    if (!PyArg_ParseTuple(arguments, "siy*iiiy*y*w*", &name, &form, &x, &count, &depth, &cols, &panels,
                          &bias, &y))
        return NULL;
    const struct variant *variant = variant_named(name);
    const int known = form == BFLOAT16 || form == INT8, even = depth % 32 == 0 && cols % 32 == 0;
    const int good = variant && known && even && count >= 0 && depth > 0 && cols > 0 &&
                     x.len == (Py_ssize_t)4 * count * depth && bias.len == (Py_ssize_t)4 * cols &&
                     y.len == (Py_ssize_t)4 * count * cols &&
                     panels.len == (Py_ssize_t)panel_bytes((enum form)form, depth) * (cols / PANEL_COLUMNS);
    struct panel_product product = {.panels = panels.buf, .x_stride = depth, .y_stride = cols,
                                    .bias = bias.buf, .y = y.buf, .depth = depth, .count = count};
    if (good && !multiply(variant, (enum form)form, cols, &product, x.buf)) PyErr_NoMemory();
    else if (!good && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "sizes do not fit");
    PyBuffer_Release(&x);
    PyBuffer_Release(&panels);
    PyBuffer_Release(&bias);
    PyBuffer_Release(&y);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

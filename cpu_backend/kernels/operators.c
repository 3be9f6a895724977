/* Single operators over buffers, for passes that are composed in Python. Computed by the caller's
 * thread; rows are copied to strides that have room for whole strips. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"

#include <stdlib.h>

enum { MOST_BUFFERS = 6 };

/* Buffers held during one call. */
struct held {
    Py_buffer buffer[MOST_BUFFERS];
    int count;
    float *scratch;
};

static void let_go(struct held *held) {
    for (int i = 0; i < held->count; i++) PyBuffer_Release(&held->buffer[i]);
    free(held->scratch);
}

/* The floats of a buffer of `count` of them, or NULL for None; NULL with an exception. */
static float *hold(struct held *held, PyObject *object, Py_ssize_t count) {
    if (object == Py_None) return NULL;
    Py_buffer *buffer = &held->buffer[held->count];
    if (get_floats(object, buffer)) return NULL;
    held->count++;
    if (buffer->len == count * 4) return buffer->buf;
    PyErr_Format(PyExc_ValueError, "a buffer has %zd floats, not %zd", buffer->len / 4, count);
    return NULL;
}

static PyObject *leave(struct held *held) {
    let_go(held);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static float *scratch_of(struct held *held, size_t floats) {
    held->scratch = calloc(floats + 64, sizeof(float));
    if (!held->scratch) PyErr_NoMemory();
    return held->scratch;
}

static void copy_rows(float *to, ptrdiff_t to_stride, const float *from, ptrdiff_t from_stride,
                      int rows, int cols) {
    for (int r = 0; r < rows; r++)
        memcpy(to + r * to_stride, from + r * from_stride, (size_t)cols * sizeof(float));
}

/* linear(variant, x, rows, matrix, bias | None, activation, residual | None, y) */
PyObject *linear(PyObject *module, PyObject *arguments) {
    (void)module;
    struct held held = {.count = 0};
    PyObject *x, *weight, *bias, *residual, *y;
    const char *name;
    int rows, activation;
    if (!PyArg_ParseTuple(arguments, "sOiOOiOO", &name, &x, &rows, &weight, &bias, &activation,
                          &residual, &y))
        return NULL;
    const struct variant *variant = variant_named(name);
    const struct matrix *matrix = variant ? matrix_in(weight) : NULL;
    if (!matrix) return NULL;
    const int cols = matrix->cols;
    const ptrdiff_t stride = (cols + 31) / 32 * 32;
    const float *bias_floats = hold(&held, bias, cols);
    const float *residual_floats = hold(&held, residual, (Py_ssize_t)rows * cols);
    struct product p = {.x = hold(&held, x, (Py_ssize_t)rows * matrix->rows),
                        .x_stride = matrix->rows, .weight = matrix, .y_stride = stride,
                        .count = rows, .activation = (enum activation)activation};
    float *out = hold(&held, y, (Py_ssize_t)rows * cols);
    float *padded = PyErr_Occurred() ? NULL : scratch_of(&held, (size_t)stride * ((size_t)rows * 2 + 1));
    if (!padded) return leave(&held);
    p.y = padded;
    if (residual_floats) {
        p.residual = padded + rows * stride;
        copy_rows(padded + rows * stride, stride, residual_floats, cols, rows, cols);
    }
    if (bias_floats) {
        p.bias = padded + 2 * rows * stride;
        copy_rows(padded + 2 * rows * stride, stride, bias_floats, cols, 1, cols);
    }
    for (int strip = 0; strip * variant->strip < cols; strip++) variant->product(&p, strip, NULL);
    copy_rows(out, cols, p.y, stride, rows, cols);
    return leave(&held);
}

/* Check offsets: [sequences + 1] of int32, from 0, ascending. Returns how many sequences, or -1. */
static int sequences_in(const Py_buffer *offsets) {
    const int32_t *offset = offsets->buf;
    const Py_ssize_t count = offsets->len / 4;
    int good = count >= 1 && offset[0] == 0;
    for (Py_ssize_t i = 1; good && i < count; i++) good = offset[i] >= offset[i - 1];
    if (good) return (int)count - 1;
    PyErr_SetString(PyExc_ValueError, "offsets ascend from 0");
    return -1;
}

/* attention(variant, q, k, v, offsets, width, heads, bias | None, longest, window, y) */
PyObject *attend(PyObject *module, PyObject *arguments) {
    (void)module;
    struct held held = {.count = 0};
    PyObject *q, *k, *v, *offsets, *bias, *y;
    const char *name;
    int width, heads, longest, window;
    if (!PyArg_ParseTuple(arguments, "sOOOOiiOiiO", &name, &q, &k, &v, &offsets, &width, &heads,
                          &bias, &longest, &window, &y))
        return NULL;
    const struct variant *variant = variant_named(name);
    if (!variant || get_floats(offsets, &held.buffer[0])) return NULL;
    held.count = 1;
    const int sequences = sequences_in(&held.buffer[0]);
    if (sequences < 0 || heads < 1 || width % heads) return leave(&held);
    const int32_t *offset = held.buffer[0].buf;
    const Py_ssize_t floats = (Py_ssize_t)offset[sequences] * width;
    const float *qs = hold(&held, q, floats), *ks = hold(&held, k, floats), *vs = hold(&held, v, floats);
    const float *biases = hold(&held, bias, (Py_ssize_t)heads * (2 * longest - 1));
    float *out = PyErr_Occurred() ? NULL : hold(&held, y, floats);
    if (!out || !scratch_of(&held, variant->attention_scratch(longest, width / heads)))
        return leave(&held);
    for (int s = 0; s < sequences; s++)
        for (int head = 0; head < heads; head++) {
            const ptrdiff_t at = (ptrdiff_t)offset[s] * width + head * (width / heads);
            struct attention a = {
                .q = qs + at, .k = ks + at, .v = vs + at, .y = out + at, .stride = width,
                .y_stride = width, .length = offset[s + 1] - offset[s], .width = width / heads,
                .bias = biases ? biases + head * (2 * longest - 1) + longest - 1 : NULL,
                .window = window, .scratch = held.scratch};
            if (a.length > longest) PyErr_SetString(PyExc_ValueError, "a sequence is too long");
            else if (a.length) variant->attention(&a);
        }
    return leave(&held);
}

/* layer_norm(variant, x, rows, width, weight, bias, eps, y) */
PyObject *layer_norm(PyObject *module, PyObject *arguments) {
    (void)module;
    struct held held = {.count = 0};
    PyObject *x, *weight, *bias, *y;
    const char *name;
    int rows, width;
    float eps;
    if (!PyArg_ParseTuple(arguments, "sOiiOOfO", &name, &x, &rows, &width, &weight, &bias, &eps, &y))
        return NULL;
    const struct variant *variant = variant_named(name);
    if (!variant) return NULL;
    const float *from = hold(&held, x, (Py_ssize_t)rows * width);
    const float *weights = hold(&held, weight, width), *biases = hold(&held, bias, width);
    float *to = PyErr_Occurred() ? NULL : hold(&held, y, (Py_ssize_t)rows * width);
    for (int r = 0; to && r < rows; r++, from += width, to += width)
        variant->layer_norm(from, to, width, weights, biases, eps);
    return leave(&held);
}

/* pool(variant, x, offsets, width, first_token, y): a sequence without tokens gives zeros. */
PyObject *pool(PyObject *module, PyObject *arguments) {
    (void)module;
    struct held held = {.count = 0};
    PyObject *x, *offsets, *y;
    const char *name;
    int width, first_token;
    if (!PyArg_ParseTuple(arguments, "sOOipO", &name, &x, &offsets, &width, &first_token, &y))
        return NULL;
    const struct variant *variant = variant_named(name);
    if (!variant || get_floats(offsets, &held.buffer[0])) return NULL;
    held.count = 1;
    const int sequences = sequences_in(&held.buffer[0]);
    if (sequences < 0) return leave(&held);
    const int32_t *offset = held.buffer[0].buf;
    const float *from = hold(&held, x, (Py_ssize_t)offset[sequences] * width);
    float *to = PyErr_Occurred() ? NULL : hold(&held, y, (Py_ssize_t)sequences * width);
    for (int s = 0; to && s < sequences; s++, to += width) {
        const int count = offset[s + 1] - offset[s];
        if (!count) memset(to, 0, (size_t)width * sizeof(float));
        else variant->mean_rows(from + (ptrdiff_t)offset[s] * width, width,
                                first_token ? 1 : count, width, to);
    }
    return leave(&held);
}

/* normalize(variant, x, rows, width, y) */
PyObject *normalize(PyObject *module, PyObject *arguments) {
    (void)module;
    struct held held = {.count = 0};
    PyObject *x, *y;
    const char *name;
    int rows, width;
    if (!PyArg_ParseTuple(arguments, "sOiiO", &name, &x, &rows, &width, &y)) return NULL;
    const struct variant *variant = variant_named(name);
    if (!variant) return NULL;
    const float *from = hold(&held, x, (Py_ssize_t)rows * width);
    float *to = PyErr_Occurred() ? NULL : hold(&held, y, (Py_ssize_t)rows * width);
    for (int r = 0; to && r < rows; r++, from += width, to += width)
        variant->normalize(from, to, width);
    return leave(&held);
}

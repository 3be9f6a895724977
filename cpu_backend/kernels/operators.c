/* Single operators over buffers, for passes that are composed in Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "deal.h"
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
    held->scratch = malloc((floats + 64) * sizeof(float));
    if (!held->scratch) PyErr_NoMemory();
    return held->scratch;
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

struct attention_call {
    const struct variant *variant;
    struct attention attention; /* of the first row */
    const int32_t *offset;
    int heads, longest;
    size_t scratch; /* floats of each thread */
};

/* One head of one sequence. */
static void attend_unit(void *what, int unit, int rank) {
    const struct attention_call *call = what;
    const int s = unit / call->heads, head = unit % call->heads;
    struct attention a = call->attention;
    const ptrdiff_t at = (ptrdiff_t)call->offset[s] * a.stride + head * a.width;
    a.length = call->offset[s + 1] - call->offset[s];
    a.q += at, a.k += at, a.v += at, a.y += at;
    if (a.bias) a.bias += head * (2 * call->longest - 1) + call->longest - 1;
    a.scratch += (size_t)rank * call->scratch;
    if (a.length) call->variant->attention(&a);
}

static int longest_of(const int32_t *offset, int sequences) {
    int longest = 0;
    for (int s = 0; s < sequences; s++)
        if (offset[s + 1] - offset[s] > longest) longest = offset[s + 1] - offset[s];
    return longest;
}

/* attention(variant, q, k, v, offsets, width, heads, bias | None, longest, window, y) */
PyObject *attend(PyObject *module, PyObject *arguments) {
    (void)module;
    struct held held = {.count = 0};
    PyObject *q, *k, *v, *offsets, *bias, *y;
    const char *name;
    struct attention_call call = {.heads = 0};
    int width, window;
    if (!PyArg_ParseTuple(arguments, "sOOOOiiOiiO", &name, &q, &k, &v, &offsets, &width, &call.heads,
                          &bias, &call.longest, &window, &y))
        return NULL;
    call.variant = variant_named(name);
    if (!call.variant || get_floats(offsets, &held.buffer[0])) return NULL;
    held.count = 1;
    const int sequences = sequences_in(&held.buffer[0]);
    if (sequences < 0 || call.heads < 1 || width % call.heads) return leave(&held);
    call.offset = held.buffer[0].buf;
    const Py_ssize_t floats = (Py_ssize_t)call.offset[sequences] * width;
    call.attention = (struct attention){
        .q = hold(&held, q, floats), .k = hold(&held, k, floats), .v = hold(&held, v, floats),
        .bias = hold(&held, bias, (Py_ssize_t)call.heads * (2 * call.longest - 1)),
        .stride = width, .y_stride = width, .width = width / call.heads, .window = window};
    call.attention.y = PyErr_Occurred() ? NULL : hold(&held, y, floats);
    if (longest_of(call.offset, sequences) > call.longest)
        PyErr_SetString(PyExc_ValueError, "a sequence is too long");
    call.scratch = (call.variant->attention_scratch(call.longest, call.attention.width) + 63) / 64 * 64;
    const int members = deal_members((double)floats * call.longest * 2);
    if (PyErr_Occurred() || !scratch_of(&held, call.scratch * (size_t)members)) return leave(&held);
    call.attention.scratch = held.scratch;
    deal(sequences * call.heads, members, attend_unit, &call);
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

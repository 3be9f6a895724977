/* The Python types LinearEdits and EndEdits: what a task changes at one site, in buffers. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "edits.h"
#include "objects.h"

enum { MOST_PARTS = 10 };

static PyTypeObject *linear_type, *end_type;

/* An object's edits and the buffers that they lie in. */
struct held_parts {
    Py_buffer buffer[MOST_PARTS];
    int count;
};

struct linear_object {
    PyObject_HEAD
    struct linear_edits edits;
    struct held_parts held;
};

struct end_object {
    PyObject_HEAD
    struct end_edits edits;
    struct bottleneck bottleneck;
    struct held_parts held;
};

/* The content of a buffer of `bytes` bytes; NULL for None, and with an exception. */
static const void *part(struct held_parts *held, PyObject *object, Py_ssize_t bytes) {
    if (object == Py_None || PyErr_Occurred()) return NULL;
    Py_buffer *buffer = &held->buffer[held->count];
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS)) return NULL;
    held->count++;
    if (buffer->len == bytes) return buffer->buf;
    PyErr_Format(PyExc_ValueError, "a part of a task has %zd bytes, not %zd", buffer->len, bytes);
    return NULL;
}

static const float *floats(struct held_parts *held, PyObject *object, Py_ssize_t count) {
    return part(held, object, count * (Py_ssize_t)sizeof(float));
}

static ptrdiff_t whole_strips(int width) { return (width + 31) / 32 * 32; }

/* Entries stay within the matrix: their rows below `rows`, their places in order. */
static int entries_are_sound(const struct linear_edits *edits, int rows, int cols, Py_ssize_t count) {
    int sound = edits->starts[0] == 0 && edits->starts[cols] == count;
    for (int c = 0; sound && c < cols; c++) sound = edits->starts[c] <= edits->starts[c + 1];
    for (Py_ssize_t e = 0; sound && e < count; e++) sound = edits->indices[e] < rows;
    if (!sound) PyErr_SetString(PyExc_ValueError, "a sparse difference leaves its matrix");
    return sound;
}

/* LinearEdits(rows, cols, rank, entries, scale_in, down, up, starts, indices, values, kept,
 * scale_out, bias) */
static PyObject *new_linear(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    (void)names;
    int rows, cols, rank;
    Py_ssize_t entries;
    PyObject *o[9];
    if (!PyArg_ParseTuple(arguments, "iiinOOOOOOOOO", &rows, &cols, &rank, &entries, &o[0], &o[1],
                          &o[2], &o[3], &o[4], &o[5], &o[6], &o[7], &o[8]))
        return NULL;
    struct linear_object *self = (struct linear_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    struct linear_edits *e = &self->edits;
    struct held_parts *held = &self->held;
    e->rank = rank;
    e->rank_stride = whole_strips(rank);
    e->out_stride = whole_strips(cols);
    e->kept_stride = whole_strips(cols) / 8;
    e->scale_in = floats(held, o[0], rows);
    e->down = floats(held, o[1], rows * e->rank_stride);
    e->up = floats(held, o[2], rank * e->out_stride);
    e->starts = part(held, o[3], ((Py_ssize_t)cols + 1) * 4);
    e->indices = part(held, o[4], entries * 2);
    e->values = floats(held, o[5], entries);
    e->kept = part(held, o[6], rows * e->kept_stride);
    e->scale_out = floats(held, o[7], cols);
    e->bias = floats(held, o[8], cols);
    if (!PyErr_Occurred() && (!e->starts || entries_are_sound(e, rows, cols, entries)))
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static int set_norm(struct held_parts *held, struct norm_parameters *norm, PyObject *object,
                    int width) {
    PyObject *weight, *bias;
    double eps;
    if (object == Py_None) return 1;
    if (!PyArg_ParseTuple(object, "OOd", &weight, &bias, &eps)) return 0;
    norm->weight = floats(held, weight, width);
    norm->bias = floats(held, bias, width);
    norm->eps = (float)eps;
    return !PyErr_Occurred();
}

/* (input, base, base_before_norm, closes, activation, rank, down, down_bias, up, up_bias, before,
 * after) */
static int set_bottleneck(struct end_object *self, PyObject *parts, int width) {
    struct bottleneck *b = &self->bottleneck;
    struct held_parts *held = &self->held;
    PyObject *down, *down_bias, *up, *up_bias, *before, *after;
    int input, base, activation;
    if (!PyArg_ParseTuple(parts, "iippiiOOOOOO", &input, &base, &b->base_before_norm, &b->closes,
                          &activation, &b->rank, &down, &down_bias, &up, &up_bias, &before, &after))
        return 0;
    b->input = (enum state)input;
    b->base = (enum state)base;
    b->activation = (enum activation)activation;
    b->rank_stride = whole_strips(b->rank);
    b->width_stride = whole_strips(width);
    b->down = floats(held, down, width * b->rank_stride);
    b->down_bias = floats(held, down_bias, b->rank_stride);
    b->up = floats(held, up, b->rank * b->width_stride);
    b->up_bias = floats(held, up_bias, b->width_stride);
    self->edits.bottleneck = b;
    return !PyErr_Occurred() && set_norm(held, &b->before, before, width) &&
           set_norm(held, &b->after, after, width);
}

/* EndEdits(width, norm | None, bottleneck | None) */
static PyObject *new_end(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    (void)names;
    int width;
    PyObject *norm, *bottleneck;
    if (!PyArg_ParseTuple(arguments, "iOO", &width, &norm, &bottleneck)) return NULL;
    struct end_object *self = (struct end_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    if (set_norm(&self->held, &self->edits.norm, norm, width) &&
        (bottleneck == Py_None || set_bottleneck(self, bottleneck, width)))
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void let_go(PyObject *object, struct held_parts *held) {
    for (int i = 0; i < held->count; i++) PyBuffer_Release(&held->buffer[i]);
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

static void free_linear(PyObject *object) {
    let_go(object, &((struct linear_object *)object)->held);
}

static void free_end(PyObject *object) { let_go(object, &((struct end_object *)object)->held); }

static PyType_Slot linear_slots[] = {
    {Py_tp_doc, "LinearEdits(...): what a task changes in a product."},
    {Py_tp_new, new_linear},
    {Py_tp_dealloc, free_linear},
    {0, NULL},
};
static PyType_Slot end_slots[] = {
    {Py_tp_doc, "EndEdits(width, norm, bottleneck): what a task changes where a sub-layer ends."},
    {Py_tp_new, new_end},
    {Py_tp_dealloc, free_end},
    {0, NULL},
};
static PyType_Spec linear_spec = {"pageformer.cpu_backend._kernels.LinearEdits",
                                  sizeof(struct linear_object), 0, Py_TPFLAGS_DEFAULT, linear_slots};
static PyType_Spec end_spec = {"pageformer.cpu_backend._kernels.EndEdits",
                               sizeof(struct end_object), 0, Py_TPFLAGS_DEFAULT, end_slots};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec) {
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddType(module, (PyTypeObject *)type)) Py_CLEAR(type);
    return (PyTypeObject *)type;
}

int add_edits(PyObject *module) {
    linear_type = add_type(module, &linear_spec);
    end_type = linear_type ? add_type(module, &end_spec) : NULL;
    return end_type ? 0 : -1;
}

static int is_a(PyObject *object, PyTypeObject *type) {
    if (PyObject_TypeCheck(object, type)) return 1;
    PyErr_Format(PyExc_TypeError, "%s is wanted, not %s", type->tp_name, Py_TYPE(object)->tp_name);
    return 0;
}

const void *linear_edits_of(PyObject *object) {
    return is_a(object, linear_type) ? &((struct linear_object *)object)->edits : NULL;
}

const void *end_edits_of(PyObject *object) {
    return is_a(object, end_type) ? &((struct end_object *)object)->edits : NULL;
}

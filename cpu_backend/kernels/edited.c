/* Products and the ends of sub-layers over buffers, as tasks edit them: one call for all tasks of a
 * batch, dealt out to threads by strips of columns or by rows. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "deal.h"
#include "edits.h"
#include "objects.h"

enum { MOST_BUFFERS = 6 };

struct call {
    Py_buffer buffer[MOST_BUFFERS];
    int count;
    void *memory[4];
    int memories;
    const struct variant *variant;
};

static void *room(struct call *call, size_t bytes) {
    void *memory = malloc(bytes + 256);
    if (!memory) PyErr_NoMemory();
    else call->memory[call->memories++] = memory;
    return memory;
}

static float *hold(struct call *call, PyObject *object, Py_ssize_t count) {
    if (object == Py_None || PyErr_Occurred()) return NULL;
    Py_buffer *buffer = &call->buffer[call->count];
    if (get_floats(object, buffer)) return NULL;
    call->count++;
    if (buffer->len == count * 4) return buffer->buf;
    PyErr_Format(PyExc_ValueError, "a buffer has %zd floats, not %zd", buffer->len / 4, count);
    return NULL;
}

static PyObject *leave(struct call *call) {
    for (int i = 0; i < call->count; i++) PyBuffer_Release(&call->buffer[i]);
    for (int i = 0; i < call->memories; i++) free(call->memory[i]);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

/* A run of rows of a batch, and what is edited there; NULL: nothing. */
struct run {
    int start, stop;
    PyObject *edits;
};

/* Runs that cover all rows, of a list of (start, stop, edits) that ascends; their number, or -1. */
static int runs_of(PyObject *list, int rows, struct run *runs) {
    int count = 0, at = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        struct run run;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "iiO", &run.start, &run.stop, &run.edits))
            return -1;
        if (run.stop > rows) run.stop = rows;
        if (run.start < at || run.start > run.stop) {
            PyErr_SetString(PyExc_ValueError, "rows of tasks ascend, and do not overlap");
            return -1;
        }
        if (run.start > at) runs[count++] = (struct run){at, run.start, NULL};
        if (run.start < run.stop) runs[count++] = run;
        at = run.stop;
    }
    if (at < rows) runs[count++] = (struct run){at, rows, NULL};
    return count;
}

static struct run *room_for_runs(struct call *call, PyObject *list) {
    return room(call, (2 * (size_t)PyList_GET_SIZE(list) + 1) * sizeof(struct run));
}

/* -- products --------------------------------------------------------------------------------- */

struct linear_call {
    struct edited_product product;
    const struct variant *variant;
};

static void prepare(void *what, int unit, int rank) {
    (void)rank;
    const struct linear_call *call = what;
    const struct linear_segment *segment = &call->product.segments[unit];
    const int depth = call->product.weight->rows;
    if (segment->edits && (segment->edits->up || segment->edits->starts))
        call->variant->prepare_segment(segment, call->product.x + (ptrdiff_t)segment->start * depth,
                                       depth);
}

static void strip(void *what, int unit, int rank) {
    (void)rank;
    const struct linear_call *call = what;
    call->variant->edited_strip(&call->product, unit);
}

static ptrdiff_t turned_floats(int rows, int depth) {
    return (ptrdiff_t)((rows + LINES - 1) / LINES * LINES) * depth;
}

/* Segments of runs, with room for what they prepare; how many need that, or -1. */
static int set_segments(struct call *call, const struct run *runs, int count, int depth,
                        struct linear_segment *segments) {
    size_t floats = 0;
    int prepared = 0;
    for (int i = 0; i < count; i++) {
        segments[i] = (struct linear_segment){.start = runs[i].start, .stop = runs[i].stop};
        if (!runs[i].edits) continue;
        const struct linear_edits *edits = segments[i].edits = linear_edits_in(runs[i].edits);
        if (!edits) return -1;
        const int rows = runs[i].stop - runs[i].start;
        segments[i].depth = depth;
        if (edits->up) floats += (size_t)rows * (size_t)edits->rank_stride;
        if (edits->starts) floats += (size_t)turned_floats(rows, depth);
        prepared += edits->up || edits->starts;
    }
    float *memory = prepared ? room(call, floats * sizeof(float)) : NULL;
    if (prepared && !memory) return -1;
    for (int i = 0; i < count; i++) {
        const struct linear_edits *edits = segments[i].edits;
        if (!edits) continue;
        segments[i].reduced = memory;
        if (edits->up) memory += (segments[i].stop - segments[i].start) * edits->rank_stride;
        segments[i].turned = memory;
        if (edits->starts) memory += turned_floats(segments[i].stop - segments[i].start, depth);
    }
    return prepared;
}

/* x with the rows of some segments scaled; x itself where none are; NULL with an exception. */
static const float *scaled(struct call *call, const float *x, int rows, int depth,
                           const struct linear_segment *segments, int count) {
    float *copy = NULL;
    for (int i = 0; i < count; i++) {
        const float *factor = segments[i].edits ? segments[i].edits->scale_in : NULL;
        if (!factor) continue;
        if (!copy) {
            const size_t bytes = (size_t)rows * (size_t)depth * sizeof(float);
            if (!(copy = room(call, bytes))) return NULL;
            memcpy(copy, x, bytes);
        }
        for (int r = segments[i].start; r < segments[i].stop; r++)
            for (int k = 0; k < depth; k++) copy[(ptrdiff_t)r * depth + k] *= factor[k];
    }
    return copy ? copy : x;
}

/* Fill p with room for segments and whole strips; how many segments prepare something, or -1. */
static int set_product(struct call *call, struct edited_product *p, int rows, PyObject *list,
                       float *out) {
    const int cols = p->weight->cols, depth = p->weight->rows;
    struct run *runs = room_for_runs(call, list);
    const int count = runs ? runs_of(list, rows, runs) : -1;
    struct linear_segment *segments =
        count < 0 ? NULL : room(call, ((size_t)count + 1) * sizeof *segments);
    const int prepared = segments ? set_segments(call, runs, count, depth, segments) : -1;
    if (prepared < 0) return -1;
    p->segments = segments;
    p->segment_count = count;
    p->x = scaled(call, p->x, rows, depth, segments, count);
    p->y_stride = (cols + 31) / 32 * 32;
    p->y = p->y_stride == cols ? out : room(call, (size_t)rows * (size_t)p->y_stride * sizeof(float));
    return p->x && p->y ? prepared : -1;
}

/* linear(variant, x, rows, matrix, bias | None, activation, residual | None, y, segments) */
PyObject *linear(PyObject *module, PyObject *arguments) {
    (void)module;
    struct call call = {.count = 0};
    PyObject *x, *weight, *bias, *residual, *y, *list;
    const char *name;
    int rows, activation;
    if (!PyArg_ParseTuple(arguments, "sOiOOiOOO!", &name, &x, &rows, &weight, &bias, &activation,
                          &residual, &y, &PyList_Type, &list))
        return NULL;
    struct linear_call work = {.variant = variant_named(name)};
    const struct matrix *matrix = work.variant ? matrix_in(weight) : NULL;
    if (!matrix) return NULL;
    const int cols = matrix->cols;
    struct edited_product *p = &work.product;
    p->weight = matrix;
    p->activation = (enum activation)activation;
    p->x = hold(&call, x, (Py_ssize_t)rows * matrix->rows);
    p->bias = hold(&call, bias, cols);
    p->residual = hold(&call, residual, (Py_ssize_t)rows * cols);
    float *out = hold(&call, y, (Py_ssize_t)rows * cols);
    const int prepared = PyErr_Occurred() ? -1 : set_product(&call, p, rows, list, out);
    if (prepared < 0) return leave(&call);
    const int members = deal_members((double)rows * matrix->rows * cols);
    if (prepared) deal(p->segment_count, members, prepare, &work);
    deal((cols + work.variant->strip - 1) / work.variant->strip, members, strip, &work);
    for (int r = 0; p->y != out && r < rows; r++)
        memcpy(out + (ptrdiff_t)r * cols, p->y + r * p->y_stride, (size_t)cols * sizeof(float));
    return leave(&call);
}

/* -- ends ------------------------------------------------------------------------------------- */

/* At most END_ROWS rows of one run. */
struct piece {
    int start, count;
    const struct end_edits *edits;
};

struct end_call {
    struct ending ending;
    const struct variant *variant;
    struct piece *pieces;
    size_t scratch; /* floats of each thread */
};

static void end_piece(void *what, int unit, int rank) {
    const struct end_call *call = what;
    struct ending ending = call->ending;
    ending.scratch += (size_t)rank * call->scratch;
    const struct piece *piece = &call->pieces[unit];
    call->variant->end_rows(&ending, piece->edits, piece->start, piece->count);
}

/* Cut runs into pieces; their number, or -1. */
static int set_pieces(struct call *call, struct end_call *work, const struct run *runs, int count,
                      int rows, int members) {
    int pieces = 0;
    work->pieces = room(call, ((size_t)rows / END_ROWS + (size_t)count + 1) * sizeof(struct piece));
    for (int i = 0; work->pieces && i < count; i++) {
        const struct end_edits *edits = runs[i].edits ? end_edits_in(runs[i].edits) : NULL;
        if (runs[i].edits && !edits) return -1;
        const size_t floats =
            edits && edits->bottleneck ? work->variant->ending_scratch(edits->bottleneck) : 0;
        if (floats > work->scratch) work->scratch = floats;
        for (int at = runs[i].start; at < runs[i].stop; at += END_ROWS) {
            const int left = runs[i].stop - at;
            work->pieces[pieces++] = (struct piece){at, left < END_ROWS ? left : END_ROWS, edits};
        }
    }
    if (!work->pieces) return -1;
    work->ending.scratch = room(call, work->scratch * (size_t)members * sizeof(float));
    return work->ending.scratch ? pieces : -1;
}

/* add_norm(variant, x, residual | None, rows, width, weight | None, bias | None, eps, y, segments) */
PyObject *add_norm(PyObject *module, PyObject *arguments) {
    (void)module;
    struct call call = {.count = 0};
    PyObject *x, *residual, *weight, *bias, *y, *list;
    const char *name;
    int rows, width;
    float eps;
    if (!PyArg_ParseTuple(arguments, "sOOiiOOfOO!", &name, &x, &residual, &rows, &width, &weight,
                          &bias, &eps, &y, &PyList_Type, &list))
        return NULL;
    struct end_call work = {.variant = variant_named(name)};
    if (!work.variant) return NULL;
    struct ending *e = &work.ending;
    const Py_ssize_t floats = (Py_ssize_t)rows * width;
    e->width = width;
    e->x = hold(&call, x, floats);
    e->residual = hold(&call, residual, floats);
    e->norm.weight = hold(&call, weight, width);
    e->norm.bias = hold(&call, bias, width);
    e->norm.eps = eps;
    e->y = hold(&call, y, floats);
    struct run *runs = PyErr_Occurred() ? NULL : room_for_runs(&call, list);
    const int count = runs ? runs_of(list, rows, runs) : -1;
    const int members = deal_members((double)floats * 32);
    const int pieces = count < 0 ? -1 : set_pieces(&call, &work, runs, count, rows, members);
    if (pieces > 0) deal(pieces, members, end_piece, &work);
    return leave(&call);
}

#include "call.h"

#include <stdlib.h>

#include "objects.h"

void *room(struct call *call, size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 256 + 63) / 64 * 64);
    if (!memory) PyErr_NoMemory();
    else call->memory[call->memories++] = memory;
    return memory;
}

float *hold(struct call *call, PyObject *object, Py_ssize_t count) {
    if (object == Py_None || PyErr_Occurred()) return NULL;
    Py_buffer *buffer = &call->buffer[call->count];
    if (get_floats(object, buffer)) return NULL;
    call->count++;
    if (buffer->len == count * 4) return buffer->buf;
    PyErr_Format(PyExc_ValueError, "a buffer has %zd floats, not %zd", buffer->len / 4, count);
    return NULL;
}

float *hold_rows(struct call *call, PyObject *object, int rows, int cols, Py_ssize_t *stride) {
    if (PyErr_Occurred()) return NULL;
    Py_buffer *buffer = &call->buffer[call->count];
    if (PyObject_GetBuffer(object, buffer, PyBUF_STRIDES)) return NULL;
    call->count++;
    const Py_ssize_t *shape = buffer->shape, *strides = buffer->strides;
    const int fits = buffer->ndim == 2 && buffer->itemsize == 4 && shape[0] == rows && shape[1] == cols;
    if (fits && (rows < 2 || strides[0] >= cols * 4) && (cols < 2 || strides[1] == 4)) {
        *stride = rows < 2 ? cols : strides[0] / 4;
        return buffer->buf;
    }
    PyErr_Format(PyExc_ValueError, "%d rows of %d floats are wanted, each in one piece", rows, cols);
    return NULL;
}

PyObject *leave(struct call *call) {
    for (int i = 0; i < call->count; i++) PyBuffer_Release(&call->buffer[i]);
    for (int i = 0; i < call->memories; i++) free(call->memory[i]);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

int fill_runs(struct edited_run *runs, PyObject *list, int rows, edits_reader *edits_of) {
    int count = 0, at = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        struct edited_run run;
        PyObject *edits;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "iiO", &run.start, &run.stop, &edits) ||
            !(run.edits = edits_of(edits)))
            return -1;
        if (run.stop > rows) run.stop = rows;
        if (run.start < at || run.start > run.stop) {
            PyErr_SetString(PyExc_ValueError, "rows of tasks ascend, and do not overlap");
            return -1;
        }
        if (run.start > at) runs[count++] = (struct edited_run){at, run.start, NULL};
        if (run.start < run.stop) runs[count++] = run;
        at = run.stop;
    }
    if (at < rows) runs[count++] = (struct edited_run){at, rows, NULL};
    return count;
}

int runs_of(struct call *call, PyObject *list, int rows, edits_reader *edits_of,
            struct edited_run **runs) {
    *runs = room(call, (2 * (size_t)PyList_GET_SIZE(list) + 1) * sizeof **runs);
    return *runs ? fill_runs(*runs, list, rows, edits_of) : -1;
}

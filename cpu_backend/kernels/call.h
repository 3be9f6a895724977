/* What one call over buffers holds, and the runs of rows that tasks edit. */
#ifndef PAGEFORMER_CALL_H
#define PAGEFORMER_CALL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

enum { MOST_BUFFERS = 6, MOST_MEMORIES = 8 };

struct call {
    Py_buffer buffer[MOST_BUFFERS];
    int count;
    void *memory[MOST_MEMORIES];
    int memories;
};

/* Memory until the call's end; NULL with an exception. */
void *room(struct call *call, size_t bytes);

/* The floats of a buffer of `count` of them, or NULL for None; NULL with an exception. */
float *hold(struct call *call, PyObject *object, Py_ssize_t count);

/* The same of rows, which lie `stride` floats apart. */
float *hold_rows(struct call *call, PyObject *object, int rows, int cols, Py_ssize_t *stride);

/* Let go of everything; None, or NULL with an exception. */
PyObject *leave(struct call *call);

/* A run of rows of a batch, and what is edited there; NULL: nothing. */
struct run {
    int start, stop;
    PyObject *edits;
};

/* Runs that cover all rows, of a list of (start, stop, edits) that ascends; their number, or -1. */
int runs_of(struct call *call, PyObject *list, int rows, struct run **runs);

#endif

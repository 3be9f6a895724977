/* What one call over buffers holds, and the runs of rows that tasks edit. */
#ifndef PAGEFORMER_CALL_H
#define PAGEFORMER_CALL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "edited_plan.h"

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

/* Fill runs that cover all rows, from a list of (start, stop, edits) that ascends; their number, or -1.
 * edits_of: the edits in an object; NULL with an exception. runs: room for 2 * length + 1 of them. */
typedef const void *edits_reader(PyObject *object);
int fill_runs(struct edited_run *runs, PyObject *list, int rows, edits_reader *edits_of);

/* The same, with room until the call's end. */
int runs_of(struct call *call, PyObject *list, int rows, edits_reader *edits_of,
            struct edited_run **runs);

#endif

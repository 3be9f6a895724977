/* The ends of sub-layers over buffers, as tasks edit them: one call for all tasks of a batch, dealt
 * out to threads by rows. */
#include "call.h"

#include "deal.h"
#include "objects.h"

struct end_call {
    struct ending ending;
    const struct variant *variant;
    struct end_piece *pieces;
    int piece_count;
    size_t scratch; /* floats of each thread */
};

static void end_piece(void *what, int unit, int rank) {
    const struct end_call *call = what;
    struct ending ending = call->ending;
    ending.scratch += (size_t)rank * call->scratch;
    const struct end_piece *piece = &call->pieces[unit];
    call->variant->end_rows(&ending, piece->edits, piece->start, piece->count);
}

/* Fill in how an end is computed for these edits; 0: an exception. */
static int set_up(struct call *call, struct end_call *work, PyObject *list, int rows, int members) {
    struct edited_run *runs;
    const int count = PyErr_Occurred() ? -1 : runs_of(call, list, rows, end_edits_of, &runs);
    if (count < 0) return 0;
    for (int i = 0; i < count; i++) {
        const size_t floats = end_scratch(work->variant, runs[i].edits);
        if (floats > work->scratch) work->scratch = floats;
    }
    work->pieces = room(call, most_end_pieces(count, rows) * sizeof *work->pieces);
    work->ending.scratch = room(call, work->scratch * (size_t)members * sizeof(float));
    if (work->pieces) work->piece_count = plan_end(work->pieces, runs, count);
    return work->pieces && work->ending.scratch;
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
    e->stride = width;
    e->x = hold(&call, x, floats);
    e->residual = hold(&call, residual, floats);
    e->norm.weight = hold(&call, weight, width);
    e->norm.bias = hold(&call, bias, width);
    e->norm.eps = eps;
    e->y = hold(&call, y, floats);
    const int members = deal_members((double)floats * 32);
    if (set_up(&call, &work, list, rows, members)) deal(work.piece_count, members, end_piece, &work);
    return leave(&call);
}

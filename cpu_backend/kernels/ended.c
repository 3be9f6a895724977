/* The ends of sub-layers over buffers, as tasks edit them: one call for all tasks of a batch, dealt
 * out to threads by rows. */
#include "call.h"

#include "deal.h"
#include "edits.h"
#include "objects.h"

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

static void cut_run(struct end_call *work, int *pieces, const struct run *run,
                    const struct end_edits *edits) {
    for (int at = run->start; at < run->stop; at += END_ROWS) {
        const int left = run->stop - at;
        work->pieces[(*pieces)++] = (struct piece){at, left < END_ROWS ? left : END_ROWS, edits};
    }
}

/* Cut runs into pieces, those with bottlenecks first, so that threads end together; their number, or
 * -1. */
static int set_pieces(struct call *call, struct end_call *work, const struct run *runs, int count,
                      int rows, int members) {
    int pieces = 0;
    work->pieces = room(call, ((size_t)rows / END_ROWS + (size_t)count + 1) * sizeof(struct piece));
    for (int dear = 1; work->pieces && dear >= 0; dear--)
        for (int i = 0; i < count; i++) {
            const struct end_edits *edits = runs[i].edits ? end_edits_in(runs[i].edits) : NULL;
            if (runs[i].edits && !edits) return -1;
            const struct bottleneck *bottleneck = edits ? edits->bottleneck : NULL;
            if (dear != (bottleneck != NULL)) continue;
            const size_t floats = bottleneck ? work->variant->ending_scratch(bottleneck) : 0;
            if (floats > work->scratch) work->scratch = floats;
            cut_run(work, &pieces, &runs[i], edits);
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
    struct run *runs;
    const int count = PyErr_Occurred() ? -1 : runs_of(&call, list, rows, &runs);
    const int members = deal_members((double)floats * 32);
    const int pieces = count < 0 ? -1 : set_pieces(&call, &work, runs, count, rows, members);
    if (pieces > 0) deal(pieces, members, end_piece, &work);
    return leave(&call);
}

/* Products over buffers, as tasks edit them: one call for all tasks of a batch, dealt out to threads
 * by strips of columns and blocks of rows, which all tasks have alike. */
#include "call.h"

#include "deal.h"
#include "objects.h"

/* A product, and a scratch for each thread. */
struct linear_call {
    struct edited_plan plan;
    float *scratch;
};

static float *scratch_of(const struct linear_call *call, int rank) {
    return call->scratch + (size_t)rank * product_scratch(&call->plan);
}

static void prepare(void *what, int unit, int rank) {
    const struct linear_call *call = what;
    prepare_piece(&call->plan, unit, scratch_of(call, rank));
}

static void strip(void *what, int unit, int rank) {
    const struct linear_call *call = what;
    strip_unit(&call->plan, unit, scratch_of(call, rank));
}

/* Fill in how a product is computed for these edits; 0: an exception. */
static int set_up(struct call *call, struct linear_call *work, PyObject *list) {
    struct edited_plan *plan = &work->plan;
    struct edited_run *runs;
    const int count = PyErr_Occurred() ? -1 : runs_of(call, list, plan->rows, linear_edits_of, &runs);
    void *memory = count < 0 ? NULL : room(call, plan_bytes(count, plan->rows));
    if (!memory) return 0;
    const size_t scratch = (size_t)plan->product.threads * product_scratch(plan);
    work->scratch = room(call, (plan_product(plan, runs, count, memory) + scratch) * sizeof(float));
    if (work->scratch) plan_prepared(plan, work->scratch + scratch);
    return work->scratch != NULL;
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
    struct linear_call work = {.plan = {.variant = variant_named(name), .rows = rows}};
    const struct matrix *matrix = work.plan.variant ? matrix_in(weight) : NULL;
    if (!matrix) return NULL;
    struct edited_product *p = &work.plan.product;
    p->weight = matrix;
    p->activation = (enum activation)activation;
    p->threads = deal_members((double)rows * matrix->rows * matrix->cols);
    work.plan.x = hold_rows(&call, x, rows, matrix->rows, &work.plan.x_stride);
    p->bias = hold(&call, bias, matrix->cols);
    p->residual = hold(&call, residual, (Py_ssize_t)rows * matrix->cols);
    p->y = hold_rows(&call, y, rows, matrix->cols, &p->y_stride);
    if (!set_up(&call, &work, list)) return leave(&call);
    deal(work.plan.piece_count, p->threads, prepare, &work);
    deal(strip_units(&work.plan), p->threads, strip, &work);
    return leave(&call);
}

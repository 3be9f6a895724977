/* Products over buffers, as tasks edit them: one call for all tasks of a batch, dealt out to threads
 * by strips of columns and blocks of rows, which all tasks have alike. */
#include "call.h"

#include <string.h>

#include "deal.h"
#include "edits.h"
#include "objects.h"

/* LINES rows of a segment at most: what is prepared at once. */
struct piece {
    const struct linear_segment *segment;
    int first, count;
};

/* A product, and how it is dealt out. */
struct linear_call {
    struct edited_product product;
    const struct variant *variant;
    const float *x;                  /* as it was given */
    ptrdiff_t x_stride;
    float *packed;                   /* or NULL: as it is read */
    struct linear_segment *segments;
    struct piece *pieces;
    float *scratch;                  /* [threads, LINES, in] */
    int *blocks;                     /* [block_count + 1], the first segment of each */
    int segment_count, block_count, piece_count, strips;
};

/* How long it takes to prepare a row. */
enum dearness { FREE, LOW_RANK, SPARSE };

static enum dearness dearness(const struct linear_edits *edits) {
    return !edits ? FREE : edits->starts ? SPARSE : edits->up ? LOW_RANK : FREE;
}

/* Copy rows of x to where they are read, scaled as their task does. */
static void pack(const struct linear_call *call, const struct piece *piece) {
    const int depth = call->product.weight->rows;
    const float *factor = piece->segment->edits ? piece->segment->edits->scale_in : NULL;
    const int start = piece->segment->start + piece->first;
    for (int r = start; r < start + piece->count; r++) {
        const float *from = call->x + r * call->x_stride;
        float *to = call->packed + r * call->product.x_stride;
        if (!factor) memcpy(to, from, (size_t)depth * sizeof(float));
        for (int k = 0; factor && k < depth; k++) to[k] = from[k] * factor[k];
    }
}

static void prepare(void *what, int unit, int rank) {
    const struct linear_call *call = what;
    const struct piece *piece = &call->pieces[unit];
    float *scratch = call->scratch + (ptrdiff_t)rank * LINES * call->product.weight->rows;
    if (call->packed) pack(call, piece);
    if (dearness(piece->segment->edits) != FREE)
        call->variant->prepare_rows(&call->product, piece->segment, piece->first, piece->count,
                                    scratch);
}

static void strip(void *what, int unit, int rank) {
    (void)rank;
    const struct linear_call *call = what;
    const int *block = &call->blocks[unit / call->strips];
    call->variant->edited_strip(&call->product, block[0], block[1], unit % call->strips);
}

/* -- setting up ------------------------------------------------------------------------------- */

/* Cut runs into segments; 0: an exception. */
static int set_segments(struct call *call, struct linear_call *work, const struct run *runs,
                        int count, int rows) {
    const size_t most = (size_t)count + (size_t)rows / BLOCK_ROWS + 1;
    struct linear_segment *segments = work->segments = room(call, most * sizeof *segments);
    for (int i = 0; segments && i < count; i++) {
        const struct linear_edits *edits = runs[i].edits ? linear_edits_in(runs[i].edits) : NULL;
        if (runs[i].edits && !edits) return 0;
        for (int at = runs[i].start, stop; at < runs[i].stop; at = stop) {
            stop = runs[i].stop - at > BLOCK_ROWS ? at + BLOCK_ROWS : runs[i].stop;
            segments[work->segment_count++] = (struct linear_segment){at, stop, edits, NULL, NULL};
        }
    }
    work->product.segments = segments;
    return segments != NULL;
}

/* Gather neighbouring segments in blocks; 0: an exception. */
static int set_blocks(struct call *call, struct linear_call *work) {
    const struct linear_segment *segments = work->segments;
    int *blocks = work->blocks = room(call, ((size_t)work->segment_count + 1) * sizeof *blocks);
    if (!blocks) return 0;
    for (int i = 0, first = 0; i < work->segment_count; i++) {
        if (i && segments[i].stop - segments[first].start <= BLOCK_ROWS) continue;
        blocks[work->block_count++] = first = i;
    }
    blocks[work->block_count] = work->segment_count;
    return 1;
}

static ptrdiff_t reduced_floats(const struct linear_segment *segment) {
    const struct linear_edits *edits = segment->edits;
    return edits && edits->up ? (segment->stop - segment->start) * edits->rank_stride : 0;
}

static ptrdiff_t added_floats(const struct linear_segment *segment) {
    const struct linear_edits *edits = segment->edits;
    return edits && edits->starts ? (segment->stop - segment->start) * edits->out_stride : 0;
}

/* Make room for what segments prepare; 0: an exception. */
static int set_prepared(struct call *call, struct linear_call *work) {
    ptrdiff_t floats = (ptrdiff_t)work->product.threads * LINES * work->product.weight->rows;
    for (int i = 0; i < work->segment_count; i++)
        floats += reduced_floats(&work->segments[i]) + added_floats(&work->segments[i]);
    float *memory = work->scratch = room(call, (size_t)floats * sizeof(float));
    if (!memory) return 0;
    memory += (ptrdiff_t)work->product.threads * LINES * work->product.weight->rows;
    for (int i = 0; i < work->segment_count; i++) {
        struct linear_segment *segment = &work->segments[i];
        segment->reduced = memory;
        segment->added = memory + reduced_floats(segment);
        memory = segment->added + added_floats(segment);
    }
    return 1;
}

static void cut_segment(struct linear_call *work, const struct linear_segment *segment) {
    const int rows = segment->stop - segment->start;
    for (int first = 0; first < rows; first += LINES)
        work->pieces[work->piece_count++] =
            (struct piece){segment, first, rows - first < LINES ? rows - first : LINES};
}

/* Cut what is prepared into pieces, the dearest first, so that threads end together; 0: an
 * exception. */
static int set_pieces(struct call *call, struct linear_call *work, int rows) {
    const size_t most = (size_t)work->segment_count + (size_t)rows / LINES;
    work->pieces = room(call, most * sizeof *work->pieces);
    if (!work->pieces) return 0;
    for (int dear = SPARSE; dear >= (work->packed ? FREE : LOW_RANK); dear--)
        for (int i = 0; i < work->segment_count; i++)
            if ((int)dearness(work->segments[i].edits) == dear) cut_segment(work, &work->segments[i]);
    return 1;
}

/* x is read where it lies, unless tasks scale it, or its rows lie so far apart that those of a tile
 * crowd one set of the cache; 0: an exception. */
static int set_packed(struct call *call, struct linear_call *work, int rows) {
    struct edited_product *p = &work->product;
    const int depth = p->weight->rows;
    int packed = rows > 1 && work->x_stride % 1024 == 0;
    for (int i = 0; i < work->segment_count; i++)
        packed |= work->segments[i].edits && work->segments[i].edits->scale_in;
    p->x_stride = packed ? depth + 32 : work->x_stride;
    if (packed && !(work->packed = room(call, (size_t)rows * (size_t)p->x_stride * sizeof(float))))
        return 0;
    p->x = packed ? work->packed : work->x;
    return 1;
}

/* Fill in how a product is computed for these edits; 0: an exception. */
static int set_up(struct call *call, struct linear_call *work, PyObject *list, int rows) {
    struct run *runs;
    const int count = PyErr_Occurred() ? -1 : runs_of(call, list, rows, &runs);
    return count >= 0 && set_segments(call, work, runs, count, rows) && set_blocks(call, work) &&
           set_prepared(call, work) && set_packed(call, work, rows) && set_pieces(call, work, rows);
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
    struct edited_product *p = &work.product;
    p->weight = matrix;
    p->activation = (enum activation)activation;
    p->threads = deal_members((double)rows * matrix->rows * matrix->cols);
    work.x = hold_rows(&call, x, rows, matrix->rows, &work.x_stride);
    p->bias = hold(&call, bias, matrix->cols);
    p->residual = hold(&call, residual, (Py_ssize_t)rows * matrix->cols);
    p->y = hold_rows(&call, y, rows, matrix->cols, &p->y_stride);
    if (!set_up(&call, &work, list, rows)) return leave(&call);
    work.strips = (matrix->cols + work.variant->strip - 1) / work.variant->strip;
    deal(work.piece_count, p->threads, prepare, &work);
    deal(work.block_count * work.strips, p->threads, strip, &work);
    return leave(&call);
}

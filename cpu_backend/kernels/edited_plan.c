/* How products and ends of sub-layers are cut for their runs of rows. */
#include "edited_plan.h"

#include <string.h>

/* How long it takes to prepare a row. */
enum dearness { FREE, LOW_RANK, SPARSE };

static enum dearness dearness(const struct linear_edits *edits) {
    return !edits ? FREE : edits->starts ? SPARSE : edits->up ? LOW_RANK : FREE;
}

/* -- cutting ---------------------------------------------------------------------------------- */

static size_t most_segments(int runs, int rows) {
    return (size_t)runs + (size_t)rows / BLOCK_ROWS + 1;
}

static size_t most_pieces(int runs, int rows) {
    return most_segments(runs, rows) + (size_t)rows / LINES;
}

size_t plan_bytes(int runs, int rows) {
    const size_t segments = most_segments(runs, rows);
    const size_t bytes = segments * (sizeof(struct linear_segment) + sizeof(int)) +
                         most_pieces(runs, rows) * sizeof(struct piece) + sizeof(int);
    return (bytes + 63) / 64 * 64;
}

/* Cut runs into segments of a block's rows at most. */
static void set_segments(struct edited_plan *plan, const struct edited_run *runs, int count) {
    for (int i = 0; i < count; i++)
        for (int at = runs[i].start, stop; at < runs[i].stop; at = stop) {
            stop = runs[i].stop - at > BLOCK_ROWS ? at + BLOCK_ROWS : runs[i].stop;
            plan->segments[plan->segment_count++] =
                (struct linear_segment){at, stop, runs[i].edits, NULL, NULL};
        }
    plan->product.segments = plan->segments;
}

/* Gather neighbouring segments in blocks. */
static void set_blocks(struct edited_plan *plan) {
    const struct linear_segment *segments = plan->segments;
    for (int i = 0, first = 0; i < plan->segment_count; i++) {
        if (i && segments[i].stop - segments[first].start <= BLOCK_ROWS) continue;
        plan->blocks[plan->block_count++] = first = i;
    }
    plan->blocks[plan->block_count] = plan->segment_count;
}

/* x is read where it lies, unless tasks scale it, or its rows lie so far apart that those of a tile
 * crowd one set of the cache. */
static void set_packs(struct edited_plan *plan) {
    plan->packs = plan->rows > 1 && plan->x_stride % 1024 == 0;
    for (int i = 0; i < plan->segment_count; i++)
        plan->packs |= plan->segments[i].edits && plan->segments[i].edits->scale_in;
    plan->product.x = plan->x;
    plan->product.x_stride = plan->packs ? plan->product.weight->rows + 32 : plan->x_stride;
}

static void cut_segment(struct edited_plan *plan, const struct linear_segment *segment) {
    const int rows = segment->stop - segment->start;
    for (int first = 0; first < rows; first += LINES)
        plan->pieces[plan->piece_count++] =
            (struct piece){segment, first, rows - first < LINES ? rows - first : LINES};
}

/* Cut what is prepared into pieces, the dearest first, so that threads end together. */
static void set_pieces(struct edited_plan *plan) {
    for (int dear = SPARSE; dear >= (plan->packs ? FREE : LOW_RANK); dear--)
        for (int i = 0; i < plan->segment_count; i++)
            if ((int)dearness(plan->segments[i].edits) == dear) cut_segment(plan, &plan->segments[i]);
}

static size_t reduced_floats(const struct linear_segment *segment) {
    const struct linear_edits *edits = segment->edits;
    return edits && edits->up ? (size_t)((segment->stop - segment->start) * edits->rank_stride) : 0;
}

static size_t added_floats(const struct linear_segment *segment) {
    const struct linear_edits *edits = segment->edits;
    return edits && edits->starts ? (size_t)((segment->stop - segment->start) * edits->out_stride) : 0;
}

static size_t packed_floats(const struct edited_plan *plan) {
    return plan->packs ? (size_t)plan->rows * (size_t)plan->product.x_stride : 0;
}

size_t plan_product(struct edited_plan *plan, const struct edited_run *runs, int count, void *memory) {
    const int cols = plan->product.weight->cols, strip = plan->variant->strip;
    plan->strips = (cols + strip - 1) / strip;
    plan->segments = memory;
    plan->pieces = (struct piece *)(plan->segments + most_segments(count, plan->rows));
    plan->blocks = (int *)(plan->pieces + most_pieces(count, plan->rows));
    plan->segment_count = plan->block_count = plan->piece_count = 0;
    set_segments(plan, runs, count);
    set_blocks(plan);
    set_packs(plan);
    set_pieces(plan);
    size_t floats = packed_floats(plan);
    for (int i = 0; i < plan->segment_count; i++)
        floats += reduced_floats(&plan->segments[i]) + added_floats(&plan->segments[i]);
    return floats;
}

void plan_prepared(struct edited_plan *plan, float *memory) {
    plan->packed = plan->packs ? memory : NULL;
    if (plan->packs) plan->product.x = memory;
    memory += packed_floats(plan);
    for (int i = 0; i < plan->segment_count; i++) {
        struct linear_segment *segment = &plan->segments[i];
        segment->reduced = memory;
        segment->added = memory + reduced_floats(segment);
        memory = segment->added + added_floats(segment);
    }
}

/* -- computing -------------------------------------------------------------------------------- */

size_t product_scratch(const struct edited_plan *plan) {
    return LINES * (size_t)plan->product.weight->rows;
}

/* Copy rows of x to where they are read, scaled as their task does. */
static void pack(const struct edited_plan *plan, const struct piece *piece) {
    const int depth = plan->product.weight->rows;
    const float *factor = piece->segment->edits ? piece->segment->edits->scale_in : NULL;
    const int start = piece->segment->start + piece->first;
    for (int r = start; r < start + piece->count; r++) {
        const float *from = plan->x + r * plan->x_stride;
        float *to = plan->packed + r * plan->product.x_stride;
        if (!factor) memcpy(to, from, (size_t)depth * sizeof(float));
        for (int k = 0; factor && k < depth; k++) to[k] = from[k] * factor[k];
    }
}

void prepare_piece(const struct edited_plan *plan, int unit, float *scratch) {
    const struct piece *piece = &plan->pieces[unit];
    if (plan->packed) pack(plan, piece);
    if (dearness(piece->segment->edits) != FREE)
        plan->variant->prepare_rows(&plan->product, piece->segment, piece->first, piece->count,
                                    scratch);
}

void strip_unit(const struct edited_plan *plan, int unit, float *scratch) {
    const int *block = &plan->blocks[unit / plan->strips];
    plan->variant->edited_strip(&plan->product, block[0], block[1], unit % plan->strips, scratch);
}

/* -- ends ------------------------------------------------------------------------------------- */

int plan_end(struct end_piece *pieces, const struct edited_run *runs, int count) {
    int found = 0;
    for (int dear = 1; dear >= 0; dear--)
        for (int i = 0; i < count; i++) {
            const struct end_edits *edits = runs[i].edits;
            if (dear != (edits && edits->bottleneck)) continue;
            for (int at = runs[i].start; at < runs[i].stop; at += END_ROWS) {
                const int left = runs[i].stop - at;
                pieces[found++] = (struct end_piece){at, left < END_ROWS ? left : END_ROWS, edits};
            }
        }
    return found;
}

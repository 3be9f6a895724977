/* How products and ends of sub-layers that tasks edit are dealt out. */
#ifndef PAGEFORMER_EDITED_PLAN_H
#define PAGEFORMER_EDITED_PLAN_H

#include "edits.h"

/* Rows [start, stop) of a batch and what is edited there: linear_edits or end_edits, as the site has
 * it; NULL: nothing. The runs of a site cover all rows, in order. */
struct edited_run {
    int start, stop;
    const void *edits;
};

/* LINES rows of a segment at most: what is prepared at once. */
struct piece {
    const struct linear_segment *segment;
    int first, count;
};

/* A product: pieces that are prepared, in any order, then strips of blocks of rows. */
struct edited_plan {
    struct edited_product product; /* x and its stride: as they are read */
    const struct variant *variant;
    const float *x; /* as it is given */
    ptrdiff_t x_stride;
    float *packed; /* or NULL: x is read where it lies */
    struct linear_segment *segments;
    struct piece *pieces;
    int *blocks; /* [block_count + 1], the first segment of each */
    int segment_count, block_count, piece_count, strips, rows, packs;
};

/* Bytes for what plan_product cuts, in whole lines of the cache. */
size_t plan_bytes(int runs, int rows);

/* Cut a product, whose variant, rows, x, weight, y and what goes with them are filled in. Returns how
 * many floats plan_prepared wants. */
size_t plan_product(struct edited_plan *plan, const struct edited_run *runs, int count, void *memory);
void plan_prepared(struct edited_plan *plan, float *memory);

/* Floats for a thread that computes units. */
size_t product_scratch(const struct edited_plan *plan);
void prepare_piece(const struct edited_plan *plan, int unit, float *scratch);

static inline int strip_units(const struct edited_plan *plan) {
    return plan->block_count * plan->strips;
}

void strip_unit(const struct edited_plan *plan, int unit, float *scratch);

/* At most END_ROWS rows of one run. */
struct end_piece {
    int start, count;
    const struct end_edits *edits;
};

static inline size_t most_end_pieces(int runs, int rows) {
    return (size_t)rows / END_ROWS + (size_t)runs + 1;
}

/* Floats for a thread that ends rows with these edits. */
static inline size_t end_scratch(const struct variant *variant, const struct end_edits *edits) {
    return edits && edits->bottleneck ? variant->ending_scratch(edits->bottleneck) : 0;
}

/* Cut an end into pieces, those with bottlenecks first, so that threads end together; their number. */
int plan_end(struct end_piece *pieces, const struct edited_run *runs, int count);

#endif

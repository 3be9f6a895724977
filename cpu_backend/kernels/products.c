/* The linear maps of a pass: their units of work, and where the weights of each lie.
 *
 * A unit is a strip or a panel of a map, for all rows or one chunk of them. Units that follow each
 * other in number read weights that lie side by side.
 */
#include "job.h"

enum { CHUNK_ROWS = 64 };

static int unit_columns(const struct stand *at) {
    return at->encoder->form ? PANEL_COLUMNS : at->encoder->variant->strip;
}

static int chunks(const struct stand *at) {
    return at->team->size > 1 ? parts(at->team->group->tokens, CHUNK_ROWS) : 1;
}

static int chunk_start(int rows, int chunk, int count) {
    return (int)((int64_t)rows * chunk / count);
}

static int units_of_each(const struct stand *at) {
    const int cols = at->step == UP ? at->encoder->intermediate : at->encoder->hidden;
    return parts(cols, unit_columns(at)) * chunks(at);
}

int product_units(const struct stand *at) {
    return units_of_each(at) * (at->step == QUERY_KEY_VALUE ? 3 : 1);
}

/* -- what a unit is --------------------------------------------------------------------------- */

void set_flow(const struct stand *at, int which, struct part *part) {
    const struct workspace *space = at->team->space;
    const struct layer *layer = at->layer;
    const enum activation activation = (enum activation)at->encoder->activation;
    switch (at->step) {
    case QUERY_KEY_VALUE:
        part->linear = which == 0 ? &layer->query : which == 1 ? &layer->key : &layer->value;
        part->from = normed(at);
        part->to = which == 0 ? &space->query : which == 1 ? &space->key : &space->value;
        break;
    case OUTPUT:
        part->linear = &layer->output;
        part->from = &space->mixed;
        part->to = written(at);
        part->residual = stream(at, 0);
        break;
    case UP:
        part->linear = &layer->up;
        part->from = normed(at);
        part->to = &space->inner;
        part->activation = activation;
        break;
    default:
        part->linear = &layer->down;
        part->from = &space->inner;
        part->to = written(at);
        part->residual = stream(at, 0);
        part->activation = at->encoder->final_activation ? activation : NO_ACTIVATION;
    }
}

static struct part part_of(const struct stand *at, int unit) {
    struct part part = {.activation = NO_ACTIVATION};
    const int each = units_of_each(at), count = chunks(at), rows = at->team->group->tokens;
    const int chunk = unit % count;
    set_flow(at, unit / each, &part);
    part.col = unit % each / count * unit_columns(at);
    part.first = chunk_start(rows, chunk, count);
    part.count = chunk_start(rows, chunk + 1, count) - part.first;
    return part;
}

struct ahead product_weights(const struct stand *at, int unit) {
    const struct part part = part_of(at, unit);
    return (struct ahead){part.linear->weight, part.col};
}

/* -- computing one ---------------------------------------------------------------------------- */

static void do_wide(const struct stand *at, const struct part *part, struct ahead ahead) {
    const struct rows *from = part->from, *to = part->to;
    const ptrdiff_t y = part->first * to->stride;
    const struct product p = {
        .x = from->wide + part->first * from->stride, .x_stride = from->stride,
        .weight = part->linear->weight, .bias = part->linear->bias,
        .residual = part->residual ? part->residual->wide + y : NULL, .y = to->wide + y,
        .y_stride = to->stride, .count = part->count, .activation = part->activation};
    at->encoder->variant->product(&p, part->col / unit_columns(at), ahead);
}

static void do_panel(const struct stand *at, const struct part *part) {
    const struct variant *variant = at->encoder->variant;
    const struct rows *from = part->from, *to = part->to;
    const struct linear *linear = part->linear;
    const ptrdiff_t x = part->first * from->stride, y = part->first * to->stride;
    const struct panel_product p = {
        .x16 = from->half + x, .x8 = from->bytes ? from->bytes + x : NULL,
        .scales = from->scales ? from->scales + part->first : NULL, .panels = linear->panels,
        .x_stride = from->stride, .y_stride = to->stride, .bias = linear->bias,
        .residual = part->residual ? part->residual->wide + y : NULL,
        .y = to->wide ? to->wide + y : NULL, .y16 = to->wide ? NULL : to->half + y,
        .depth = linear->weight->rows, .count = part->count, .activation = part->activation};
    (linear->form == INT8 ? variant->product8 : variant->product16)(&p, part->col / PANEL_COLUMNS);
}

void do_product(const struct stand *at, int unit, struct ahead ahead) {
    const struct part part = part_of(at, unit);
    if (part.linear->form == FLOAT32) do_wide(at, &part, ahead);
    else do_panel(at, &part);
}

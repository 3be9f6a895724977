/* The forward pass of an encoder, as steps of equal units of work.
 *
 *      EMBED  ( QUERY_KEY_VALUE  ATTEND  OUTPUT  NORM  UP  DOWN  NORM ) x layers  POOL
 *      EMBED  ( NORM  QUERY_KEY_VALUE  ATTEND  OUTPUT  NORM  UP  DOWN ) x layers  POOL    pre-norm
 *
 * A unit is a strip of columns, a head of one sequence, or a few rows. In INT8 two more steps say
 * how the rows of `mixed` and `inner` are read as bytes, once a whole row is known. Where tasks may
 * edit products, a step before each prepares that (edited_steps.c). A layer without a feed-forward
 * part ends with its fourth step.
 *
 * Post-norm, products read x, and write sums, which are normalised into x. Pre-norm, a sub-layer
 * reads x, normalised into `mixed`, and writes sums; the next one reads sums and writes x.
 */
#include <string.h>

#include "job.h"

/* Few, where several threads share them out. */
static int rows_per_unit(const struct team *team) { return team->size > 1 ? 4 : 16; }

static const enum step plain_steps[] = {QUERY_KEY_VALUE, ATTEND, OUTPUT, NORM, UP, DOWN, NORM_AGAIN};
static const enum step edited_steps[] = {PREPARE_INPUT, QUERY_KEY_VALUE, ATTEND, PREPARE_MIXED,
                                         OUTPUT,        NORM,            PREPARE_NORMED,
                                         UP,            PREPARE_INNER,   DOWN,
                                         NORM_AGAIN};
static const enum step pre_norm_steps[] = {NORM, QUERY_KEY_VALUE, ATTEND, OUTPUT, NORM_AGAIN, UP, DOWN};
static const enum step int8_steps[] = {QUERY_KEY_VALUE, ATTEND,         QUANTIZE_MIXED,
                                       OUTPUT,          NORM,           UP,
                                       QUANTIZE_INNER,  DOWN,           NORM_AGAIN};

static const enum step *layer_steps(const struct encoder *encoder) {
    return encoder->norm_first      ? pre_norm_steps
           : encoder->edits         ? edited_steps
           : encoder->form == INT8  ? int8_steps
                                    : plain_steps;
}

static int steps_per_layer(const struct encoder *encoder) {
    if (!encoder->intermediate) return 4;
    if (encoder->edits) return (int)(sizeof edited_steps / sizeof(enum step));
    return (int)(encoder->form == INT8 ? sizeof int8_steps : sizeof plain_steps) /
           (int)sizeof(enum step);
}

uint32_t last_step(const struct encoder *encoder) {
    return (uint32_t)(encoder->layer_count * steps_per_layer(encoder)) + 1; /* POOL */
}

struct stand stand_at(const struct encoder *encoder, struct team *team, uint32_t step) {
    struct stand at = {.encoder = encoder, .team = team, .step = EMBED};
    if (step == last_step(encoder)) at.step = POOL;
    else if (step) {
        const int each = steps_per_layer(encoder), done = (int)step - 1, layer = done / each;
        at.step = layer_steps(encoder)[done % each];
        at.layer = encoder->layers + layer;
    }
    const int layers = at.layer ? (int)(at.layer - encoder->layers) : at.step ? encoder->layer_count : 0;
    at.sublayer = encoder->intermediate ? 2 * layers + (at.layer && at.step >= UP) : layers;
    return at;
}

int units(const struct stand *at) {
    const struct group *group = at->team->group;
    if (is_edited(at)) return edited_units(at);
    if (is_product(at->step)) return product_units(at);
    if (product_behind(at->step)) return 0;
    switch (at->step) {
    case ATTEND: return group->sequences * at->encoder->heads;
    case POOL: return group->sequences;
    default: return parts(group->tokens, rows_per_unit(at->team));
    }
}

/* -- where things are ------------------------------------------------------------------------- */

const struct rows *stream(const struct stand *at, int ahead) {
    const struct workspace *space = at->team->space;
    return at->encoder->norm_first && (at->sublayer + ahead) % 2 ? &space->sums : &space->x;
}

const struct rows *normed(const struct stand *at) {
    return at->encoder->norm_first ? &at->team->space->mixed : &at->team->space->x;
}

const struct rows *written(const struct stand *at) {
    return at->encoder->norm_first ? stream(at, 1) : &at->team->space->sums;
}

/* -- rows ------------------------------------------------------------------------------------- */

static void embed_row(const struct encoder *encoder, const struct group *group, int token, float *y) {
    const int32_t row[MOST_TABLES] = {group->ids[token], group->positions[token], 0};
    const struct matrix *word = encoder->tables[0];
    for (int j = 0, col = 0; col < encoder->hidden; j++, col += word->side) {
        const float *from[MOST_TABLES];
        for (int t = 0; t < encoder->table_count; t++) {
            const struct matrix *table = encoder->tables[t];
            const float *block = table->blocks[row[t] / table->side * table->grid_cols + j];
            from[t] = block + (ptrdiff_t)(row[t] % table->side) * table->side;
        }
        int width = encoder->hidden - col < word->side ? encoder->hidden - col : word->side;
        encoder->variant->add_rows(y + col, from, encoder->table_count, width);
    }
}

static void quantize_row(const struct encoder *encoder, const struct rows *rows, int row, int width) {
    const ptrdiff_t at = row * rows->stride;
    encoder->variant->quantize(rows->half + at, rows->bytes + at, width, rows->scales + row);
}

static void norm_row(const struct stand *at, int row) {
    const struct encoder *encoder = at->encoder;
    const struct rows *x = at->step == EMBED ? &at->team->space->x : normed(at);
    const struct rows *sums =
        encoder->norm_first && at->step != EMBED ? stream(at, 0) : &at->team->space->sums;
    const struct norm *norm = at->step == EMBED  ? &encoder->embedding_norm
                              : at->step == NORM ? &at->layer->attention_norm
                                                 : &at->layer->feed_forward_norm;
    float *from = sums->wide + row * sums->stride, *to = x->wide + row * x->stride;
    if (at->step == EMBED) embed_row(encoder, at->team->group, row, from);
    encoder->variant->layer_norm(from, to, encoder->hidden, norm->weight, norm->bias, encoder->eps);
    if (x->half) encoder->variant->narrow(to, x->half + row * x->stride, encoder->hidden);
    if (x->bytes) quantize_row(encoder, x, row, encoder->hidden);
}

/* What stands in the place of embeddings where a model takes rows. */
static void copy_row(const struct stand *at, int row) {
    const struct rows *x = &at->team->space->x;
    const size_t hidden = (size_t)at->encoder->hidden;
    memcpy(x->wide + row * x->stride, at->team->group->rows + (size_t)row * hidden,
           hidden * sizeof(float));
}

static void do_rows(const struct stand *at, int unit) {
    const struct encoder *encoder = at->encoder;
    const struct workspace *space = at->team->space;
    const int tokens = at->team->group->tokens, each = rows_per_unit(at->team), from = unit * each;
    for (int row = from; row < tokens && row < from + each; row++) {
        if (at->step == QUANTIZE_MIXED) quantize_row(encoder, &space->mixed, row, encoder->hidden);
        else if (at->step == QUANTIZE_INNER)
            quantize_row(encoder, &space->inner, row, encoder->intermediate);
        else if (at->step == EMBED && !encoder->table_count) copy_row(at, row);
        else norm_row(at, row);
    }
}

/* -- attention, pooling ----------------------------------------------------------------------- */

static void attend_wide(const struct stand *at, struct attention *attention, ptrdiff_t from) {
    const struct workspace *space = at->team->space;
    attention->q = space->query.wide + from;
    attention->k = space->key.wide + from;
    attention->v = space->value.wide + from;
    attention->y = space->mixed.wide + from;
    at->encoder->variant->attention(attention);
    for (int row = 0; space->mixed.half && row < attention->length; row++)
        at->encoder->variant->narrow(attention->y + row * attention->y_stride,
                                     space->mixed.half + from + row * space->mixed.stride,
                                     attention->width);
}

static void attend_half(const struct stand *at, struct attention *attention, ptrdiff_t from) {
    const struct workspace *space = at->team->space;
    attention->q16 = space->query.half + from;
    attention->k16 = space->key.half + from;
    attention->v16 = space->value.half + from;
    attention->y16 = space->mixed.half + from;
    at->encoder->variant->attention16(attention);
}

static void do_attend(const struct stand *at, int unit, float *scratch) {
    const struct encoder *encoder = at->encoder;
    const int *offset = at->team->group->offsets + unit / encoder->heads;
    const int head = unit % encoder->heads, width = encoder->hidden / encoder->heads;
    const int distances = 2 * encoder->longest - 1;
    const ptrdiff_t stride = at->team->space->query.stride;
    const float *relative = encoder->relative;
    struct attention attention = {
        .stride = stride, .y_stride = stride, .length = offset[1] - offset[0], .width = width,
        .window = -1, .scratch = scratch,
        .bias = relative ? relative + head * distances + encoder->longest - 1 : NULL};
    (at->team->space->query.half ? attend_half : attend_wide)(at, &attention,
                                                             offset[0] * stride + head * width);
}

static void do_pool(const struct stand *at, int sequence, int states) {
    const struct encoder *encoder = at->encoder;
    const struct group *group = at->team->group;
    const struct rows *last = stream(at, 0);
    const ptrdiff_t stride = last->stride;
    const int from = group->offsets[sequence], to = group->offsets[sequence + 1];
    const size_t hidden = (size_t)encoder->hidden;
    const float *x = last->wide + from * stride;
    float *answer = group->answer + (size_t)(states ? from : sequence) * hidden;
    if (states)
        for (int row = 0; row < to - from; row++)
            memcpy(answer + (size_t)row * hidden, x + row * stride, hidden * sizeof(float));
    else if (to == from) memset(answer, 0, hidden * sizeof(float));
    else
        encoder->variant->mean_rows(x, stride, encoder->first_token ? 1 : to - from, encoder->hidden,
                                    answer);
}

void do_unit(const struct stand *at, int unit, struct ahead ahead, float *scratch, int states) {
    if (is_edited(at)) return do_edited(at, unit, scratch);
    if (is_product(at->step)) return do_product(at, unit, ahead);
    switch (at->step) {
    case ATTEND: do_attend(at, unit, scratch); break;
    case POOL: do_pool(at, unit, states); break;
    default: do_rows(at, unit);
    }
}

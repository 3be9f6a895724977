/* Steps of a group that tasks edit: products by runs of rows, and ends of sub-layers in place of norms.
 *
 * What tasks compute of a product's input before its strips is a step of its own. Whoever deals that
 * step out plans the product too; nobody else looks at the plan before.
 */
#include <stdlib.h>

#include "job.h"

enum { MOST_MAPS = 3, PADDING = 64 };

struct group_edits {
    int layers, rows;
    struct site {
        struct edited_run *runs;
        int count;
    } *sites; /* [layers, SITES] */
    int most_runs;
    struct edited_plan plans[MOST_MAPS]; /* of the product that is computed now */
    struct end_piece *pieces;            /* of the end that is computed now */
    int piece_count;
    char *room; /* for what plans are cut to, and */
    float *prepared;
    size_t scratch; /* floats of each thread */
};

struct group_edits *new_edits(int layers, int rows) {
    struct group_edits *edits = calloc(1, sizeof *edits);
    if (!edits) return NULL;
    edits->layers = layers;
    edits->rows = rows;
    edits->sites = calloc((size_t)layers * SITES, sizeof *edits->sites);
    if (edits->sites) return edits;
    free(edits);
    return NULL;
}

void free_edits(struct group_edits *edits) {
    if (!edits) return;
    for (int i = 0; i < edits->layers * SITES; i++) free(edits->sites[i].runs);
    free(edits->sites);
    free(edits->pieces);
    free(edits->room);
    free(edits->prepared);
    free(edits);
}

void edit_site(struct group_edits *edits, int layer, enum site_name name, struct edited_run *runs,
               int count) {
    struct site *site = &edits->sites[layer * SITES + name];
    free(site->runs);
    *site = (struct site){runs, count};
    if (count > edits->most_runs) edits->most_runs = count;
}

/* -- plans ------------------------------------------------------------------------------------ */

static int maps(const struct stand *at) {
    return at->step == PREPARE_INPUT || at->step == QUERY_KEY_VALUE ? 3 : 1;
}

static enum site_name first_site(enum step step) {
    switch (step) {
    case PREPARE_INPUT: return QUERY_SITE;
    case PREPARE_MIXED: return OUTPUT_SITE;
    case PREPARE_NORMED: return UP_SITE;
    case PREPARE_INNER: return DOWN_SITE;
    case NORM: return ATTENTION_END;
    default: return FEED_FORWARD_END;
    }
}

/* The runs of a site; where nothing is edited, one of all rows. */
static struct site site_at(const struct stand *at, int name, struct edited_run *all) {
    const struct group_edits *edits = at->team->group->edits;
    const int layer = (int)(at->layer - at->encoder->layers);
    *all = (struct edited_run){0, edits->rows, NULL};
    const struct site site = edits->sites[layer * SITES + name];
    return site.count ? site : (struct site){all, 1};
}

/* Plan the product behind a step that prepares it; how many floats are prepared. */
static size_t plan_products(const struct stand *at) {
    struct group_edits *edits = at->team->group->edits;
    struct stand product = *at;
    product.step = product_behind(at->step);
    char *room = edits->room;
    size_t floats = 0;
    for (int which = 0; which < maps(at); which++, room += plan_bytes(edits->most_runs, edits->rows)) {
        struct part part = {.activation = NO_ACTIVATION};
        set_flow(&product, which, &part);
        struct edited_plan *plan = &edits->plans[which];
        *plan = (struct edited_plan){
            .variant = at->encoder->variant, .rows = edits->rows,
            .x = part.from->wide, .x_stride = part.from->stride,
            .product = {.bias = part.linear->bias, .weight = part.linear->weight, .threads = 1,
                        .y = part.to->wide, .y_stride = part.to->stride,
                        .activation = part.activation}};
        struct edited_run all;
        const struct site site = site_at(at, first_site(at->step) + which, &all);
        const size_t before = floats;
        floats += plan_product(plan, site.runs, site.count, room);
        if (edits->prepared) plan_prepared(plan, edits->prepared + before);
    }
    return floats;
}

static void plan_ends(const struct stand *at) {
    struct group_edits *edits = at->team->group->edits;
    struct edited_run all;
    const struct site site = site_at(at, first_site(at->step), &all);
    edits->piece_count = plan_end(edits->pieces, site.runs, site.count);
}

void plan_step(const struct stand *at) {
    if (product_behind(at->step)) plan_products(at);
    else if (at->step == NORM || at->step == NORM_AGAIN) plan_ends(at);
}

static void count_scratch(struct group_edits *edits, const struct encoder *encoder) {
    const int wide = encoder->hidden > encoder->intermediate ? encoder->hidden : encoder->intermediate;
    edits->scratch = LINES * (size_t)wide;
    for (int i = 0; i < edits->layers * SITES; i++)
        for (int r = 0; i % SITES >= ATTENTION_END && r < edits->sites[i].count; r++) {
            const size_t floats = end_scratch(encoder->variant, edits->sites[i].runs[r].edits);
            if (floats > edits->scratch) edits->scratch = floats;
        }
}

size_t edits_scratch(const struct group *group) { return group->edits ? group->edits->scratch : 0; }

int make_edits_room(const struct encoder *encoder, struct team *team) {
    struct group_edits *edits = team->group->edits;
    if (!edits->most_runs) edits->most_runs = 1;
    edits->room = malloc(MOST_MAPS * plan_bytes(edits->most_runs, edits->rows));
    edits->pieces = malloc(most_end_pieces(edits->most_runs, edits->rows) * sizeof *edits->pieces);
    if (!edits->room || !edits->pieces) return 0;
    size_t most = 0;
    for (uint32_t step = 0; step < last_step(encoder); step++) {
        const struct stand at = stand_at(encoder, team, step);
        const size_t floats = product_behind(at.step) ? plan_products(&at) : 0;
        if (floats > most) most = floats;
    }
    edits->prepared = malloc((most + PADDING) * sizeof(float));
    count_scratch(edits, encoder);
    return edits->prepared != NULL;
}

/* -- units ------------------------------------------------------------------------------------ */

int edited_units(const struct stand *at) {
    const struct group_edits *edits = at->team->group->edits;
    if (at->step == NORM || at->step == NORM_AGAIN) return edits->piece_count;
    int count = 0;
    for (int which = 0; which < maps(at); which++)
        count += is_product(at->step) ? strip_units(&edits->plans[which])
                                      : edits->plans[which].piece_count;
    return count;
}

static void do_end(const struct stand *at, const struct end_piece *piece, float *scratch) {
    const struct workspace *space = at->team->space;
    const struct norm *norm =
        at->step == NORM ? &at->layer->attention_norm : &at->layer->feed_forward_norm;
    const struct ending ending = {
        .x = space->sums.wide, .residual = space->x.wide, .y = space->x.wide,
        .stride = space->x.stride, .width = at->encoder->hidden,
        .norm = {norm->weight, norm->bias, at->encoder->eps}, .scratch = scratch};
    at->encoder->variant->end_rows(&ending, piece->edits, piece->start, piece->count);
}

void do_edited(const struct stand *at, int unit, float *scratch) {
    const struct group_edits *edits = at->team->group->edits;
    if (at->step == NORM || at->step == NORM_AGAIN) {
        do_end(at, &edits->pieces[unit], scratch);
        return;
    }
    for (int which = 0;; which++) {
        const struct edited_plan *plan = &edits->plans[which];
        const int count = is_product(at->step) ? strip_units(plan) : plan->piece_count;
        if (unit >= count) unit -= count;
        else if (is_product(at->step)) return strip_unit(plan, unit, scratch);
        else return prepare_piece(plan, unit, scratch);
    }
}

/* What a job consists of, for the files that compute it: groups of sequences, teams of threads. */
#ifndef PAGEFORMER_JOB_H
#define PAGEFORMER_JOB_H

#include <pthread.h>

#include "edited_plan.h"
#include "encoder.h"
#include "threads.h"

/* Some sequences, one after another, and what is computed of them. */
struct group {
    struct group *next;
    int sequences, tokens, longest, room_sequences, room_tokens;
    int32_t *ids, *positions; /* [tokens] */
    const float *rows;        /* or, where the encoder has no tables: [tokens, hidden] */
    int *offsets;             /* [sequences + 1] */
    float *answer;            /* [sequences or tokens, hidden] */
    struct group_edits *edits; /* or NULL */
    int done;
};

/* A matrix of one row a token, in the forms that the encoder wants it in (or NULL). */
struct rows {
    float *wide;
    uint16_t *half; /* bfloat16 */
    uint8_t *bytes;
    struct scale *scales; /* of bytes, one a row */
    ptrdiff_t stride;     /* elements from one row to the next */
};

struct workspace {
    char *memory;
    size_t size;
    struct rows x, sums, query, key, value, mixed, inner;
};

struct member {
    float *scratch; /* for attention */
    size_t scratch_floats;
    int64_t spent[JOB_STEPS]; /* nanoseconds */
};

struct team {
    _Atomic uint32_t step;
    _Atomic int left;   /* units of it that are not done */
    _Atomic int asleep; /* members that wait for the next step */
    int size;
    _Atomic uint64_t range[MOST_THREADS]; /* teams.c */
    struct group *group;
    struct workspace *space;
};

struct job {
    const struct encoder *encoder;
    struct crew crew;
    int threads, states, crewed, closed, together, failed;
    volatile int ended;
    _Atomic int members; /* threads that may take groups now */
    pthread_mutex_t lock;
    struct group *first, *last, *waiting; /* all groups; the next that nobody has taken */
    struct group *open;                   /* that is being filled */
    struct workspace spaces[MOST_THREADS];
    struct member member[MOST_THREADS];
    struct team team[MOST_THREADS]; /* team[0] is the common one when `together` */
};

/* -- groups.c --------------------------------------------------------------------------------- */

enum { GROUP_TOKENS = 256 };

/* A group with room for one sequence of this many tokens at least; NULL when memory is short. */
struct group *new_group(int tokens);
void free_group(struct group *group);
int group_has_room(const struct group *group, int tokens);
void append(struct group *group, const struct encoder *encoder, const int32_t *ids, int count);
void append_rows(struct group *group, const float *rows, int count);
void split(struct group *group, const struct encoder *encoder, int tokens);

/* -- workspace.c ------------------------------------------------------------------------------ */

/* Make room for a number of tokens, or for attention over the longest sequence; 0: no memory. */
int make_room(struct workspace *space, const struct encoder *encoder, int tokens);
int make_scratch(struct member *member, const struct encoder *encoder, const struct group *group);

/* -- steps.c ---------------------------------------------------------------------------------- */

/* Where a team is. */
struct stand {
    const struct encoder *encoder;
    const struct layer *layer;
    enum step step;
    int sublayer; /* attention and feed-forward parts that are done */
    struct team *team;
};

static inline int parts(int whole, int part) { return (whole + part - 1) / part; }

uint32_t last_step(const struct encoder *encoder);
struct stand stand_at(const struct encoder *encoder, struct team *team, uint32_t step);
int units(const struct stand *at);

/* `ahead`: the weights that this member reads next. */
void do_unit(const struct stand *at, int unit, struct ahead ahead, float *scratch, int states);

/* What this sub-layer adds to, or with `ahead` of 1 what the next one does. */
const struct rows *stream(const struct stand *at, int ahead);

/* What the first products of a sub-layer read, and what its last one writes. */
const struct rows *normed(const struct stand *at);
const struct rows *written(const struct stand *at);

/* -- products.c ------------------------------------------------------------------------------- */

static inline int is_product(enum step step) {
    return step == QUERY_KEY_VALUE || step == OUTPUT || step == UP || step == DOWN;
}

/* A map, what it reads, writes and adds, the first of its columns, and which rows. */
struct part {
    const struct linear *linear;
    const struct rows *from, *to, *residual; /* residual or NULL */
    enum activation activation;
    int col, first, count;
};

/* Fill in what a map of a step reads and writes. */
void set_flow(const struct stand *at, int which, struct part *part);

int product_units(const struct stand *at);
struct ahead product_weights(const struct stand *at, int unit);
void do_product(const struct stand *at, int unit, struct ahead ahead);

/* -- edited_steps.c --------------------------------------------------------------------------- */

/* Where tasks edit a layer. */
enum site_name {
    QUERY_SITE,
    KEY_SITE,
    VALUE_SITE,
    OUTPUT_SITE,
    UP_SITE,
    DOWN_SITE,
    ATTENTION_END,
    FEED_FORWARD_END,
    SITES
};

/* What tasks edit in the rows of a group; NULL: no memory. */
struct group_edits *new_edits(int layers, int rows);
void free_edits(struct group_edits *edits);

/* Take over the runs of a site, which cover all rows. */
void edit_site(struct group_edits *edits, int layer, enum site_name name, struct edited_run *runs,
               int count);

/* The product that a step prepares, or 0. */
static inline enum step product_behind(enum step step) {
    return step == PREPARE_INPUT    ? QUERY_KEY_VALUE
           : step == PREPARE_MIXED  ? OUTPUT
           : step == PREPARE_NORMED ? UP
           : step == PREPARE_INNER  ? DOWN
                                    : 0;
}

/* Whether a step is computed otherwise where tasks edit the group. */
static inline int is_edited(const struct stand *at) {
    return at->team->group->edits && (is_product(at->step) || product_behind(at->step) ||
                                      at->step == NORM || at->step == NORM_AGAIN);
}

/* Make room for all steps; 0: no memory. */
int make_edits_room(const struct encoder *encoder, struct team *team);
size_t edits_scratch(const struct group *group);

/* Plan an edited step, before its units are counted: by one thread, while nobody computes. */
void plan_step(const struct stand *at);
int edited_units(const struct stand *at);
void do_edited(const struct stand *at, int unit, float *scratch);

/* -- teams.c ---------------------------------------------------------------------------------- */

int stopped(const struct job *job);

/* Give a team a group to compute; 0: no memory. */
int set_out(struct job *job, struct team *team, struct workspace *space, struct group *group,
            int size);

/* Do a member's part of all steps that are left; 0: stopped before the end. */
int march(const struct job *job, struct team *team, struct member *member, int rank);

#endif

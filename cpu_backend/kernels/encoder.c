/* The forward pass of a post-norm encoder, as steps that are dealt out to a team of threads.
 *
 *      EMBED  ( QUERY_KEY_VALUE  ATTEND  OUTPUT  NORM  UP  DOWN  NORM ) x layers  POOL
 *
 * A step is a number of equal units of work (strips of columns, heads of sequences, rows); each
 * member of a team does its part of them and waits for the others at the step's end. A batch of
 * many texts is cut into groups, and each thread is a team of its own over a whole group: nobody
 * waits. A few texts are one group, and all threads are one team.
 *
 * When the interrupt flag is set, every member leaves after the unit it is at and remembers it; the
 * next call goes on from there. Whether a team has finished a step is known to one word alone,
 * which the last member to arrive moves on, so nobody is left waiting for one who has gone.
 */
#include "encoder.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

enum { GROUP_TOKENS = 256, ROWS_PER_UNIT = 16, CHUNK_ROWS = 64 };
enum step { EMBED, QUERY_KEY_VALUE, ATTEND, OUTPUT, NORM, UP, DOWN, NORM_AGAIN, POOL };
enum { STEPS_PER_LAYER = NORM_AGAIN - EMBED, STEPS = POOL + 1 };

static volatile int nobody;
volatile int *interrupt_flag = &nobody;

/* Some sequences, one after another, and what is computed of them. */
struct group {
    struct group *next;
    int sequences, tokens, longest, room_sequences, room_tokens;
    int32_t *ids, *positions; /* [tokens] */
    int *offsets;             /* [sequences + 1] */
    float *answer;            /* [sequences or tokens, hidden] */
    int done;
};

/* Matrices of one row a token, each row `stride` floats after the one before. */
struct workspace {
    float *memory;
    size_t floats;
    float *x, *sums, *query, *key, *value, *mixed, *inner;
    uint16_t *x16, *mixed16, *inner16; /* x, mixed and inner in bfloat16, in its stead or beside */
    ptrdiff_t hidden_stride, inner_stride;
};

struct member {
    uint32_t step;  /* of which it has done .. */
    int unit;       /* .. its units before this one */
    float *scratch; /* for attention */
    size_t scratch_floats;
    int64_t spent[STEPS]; /* nanoseconds */
};

struct team {
    _Atomic uint32_t step;
    _Atomic int arrived;
    int size;
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

static int stopped(const struct job *job) { return *interrupt_flag || job->ended; }

/* -- memory ----------------------------------------------------------------------------------- */

static ptrdiff_t stride_of(int width) { /* whole strips, and no power of two: cache sets */
    ptrdiff_t stride = (width + 31) / 32 * 32;
    return stride % 128 ? stride : stride + 32;
}

static float *aligned_floats(size_t count) {
    void *memory = NULL;
    return posix_memalign(&memory, 64, (count + 16) * sizeof(float)) ? NULL : memory;
}

/* Lay the matrices out; with NULL for memory, only count the floats. */
static size_t lay_out(struct workspace *space, const struct encoder *encoder, int tokens) {
    const size_t rows = ((size_t)tokens + 31) / 32 * 32; /* tiles of AMX read whole */
    const size_t hidden = rows * (size_t)space->hidden_stride;
    const size_t inner = rows * (size_t)space->inner_stride;
    float **wide[] = {&space->x, &space->sums, &space->query, &space->key, &space->value,
                      &space->mixed, &space->inner};
    uint16_t **half[] = {&space->x16, &space->mixed16, &space->inner16};
    size_t at = 0;
    for (int i = 0; i < 7 - encoder->narrow; i++, at += i < 7 ? hidden : inner)
        *wide[i] = space->memory + at;
    for (int i = 0; encoder->narrow && i < 3; i++) {
        *half[i] = (uint16_t *)(space->memory + at);
        at += (i < 2 ? hidden : inner) / 2;
    }
    return at;
}

static int make_room(struct workspace *space, const struct encoder *encoder, int tokens) {
    space->hidden_stride = stride_of(encoder->hidden);
    space->inner_stride = stride_of(encoder->intermediate);
    size_t floats = lay_out(space, encoder, tokens);
    if (floats > space->floats) {
        free(space->memory);
        space->memory = aligned_floats(floats);
        space->floats = space->memory ? floats : 0;
        if (!space->memory) return 0;
        memset(space->memory, 0, floats * sizeof(float));
    }
    lay_out(space, encoder, tokens);
    return 1;
}

static int make_scratch(struct member *member, const struct encoder *encoder, int longest) {
    size_t floats = encoder->variant->attention_scratch(longest, encoder->hidden / encoder->heads);
    if (floats <= member->scratch_floats) return 1;
    free(member->scratch);
    member->scratch = aligned_floats(floats);
    member->scratch_floats = member->scratch ? floats : 0;
    return member->scratch != NULL;
}

/* -- steps ------------------------------------------------------------------------------------ */

struct stand { /* where a team is */
    const struct encoder *encoder;
    const struct layer *layer;
    const struct layer *next_layer; /* or NULL */
    enum step step;
    struct team *team;
};

static uint32_t last_step(const struct encoder *encoder) {
    return (uint32_t)(encoder->layer_count * STEPS_PER_LAYER) + 1; /* POOL */
}

static struct stand stand_at(const struct encoder *encoder, struct team *team, uint32_t step) {
    struct stand at = {.encoder = encoder, .team = team, .step = EMBED};
    if (step == last_step(encoder)) at.step = POOL;
    else if (step) {
        int layer = (int)(step - 1) / STEPS_PER_LAYER;
        at.step = (enum step)(QUERY_KEY_VALUE + (int)(step - 1) % STEPS_PER_LAYER);
        at.layer = encoder->layers + layer;
        at.next_layer = layer + 1 < encoder->layer_count ? at.layer + 1 : NULL;
    }
    return at;
}

static int parts(int whole, int part) { return (whole + part - 1) / part; }

static int chunk_start(int rows, int chunk, int count) {
    return (int)((int64_t)rows * chunk / count);
}

static int chunks(const struct stand *at) {
    return at->team->size > 1 ? parts(at->team->group->tokens, CHUNK_ROWS) : 1;
}

static int strips(const struct stand *at, int cols) {
    const int strip = at->encoder->narrow ? PANEL_COLUMNS : at->encoder->variant->strip;
    return parts(cols, strip) * chunks(at);
}

static int units(const struct stand *at) {
    const struct encoder *encoder = at->encoder;
    const struct group *group = at->team->group;
    switch (at->step) {
    case QUERY_KEY_VALUE: return 3 * strips(at, encoder->hidden);
    case ATTEND: return group->sequences * encoder->heads;
    case OUTPUT:
    case DOWN: return strips(at, encoder->hidden);
    case UP: return strips(at, encoder->intermediate);
    case POOL: return group->sequences;
    default: return parts(group->tokens, ROWS_PER_UNIT);
    }
}

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

static void do_rows(const struct stand *at, int unit) {
    const struct encoder *encoder = at->encoder;
    const struct workspace *space = at->team->space;
    const struct norm *norm = at->step == EMBED  ? &encoder->embedding_norm
                              : at->step == NORM ? &at->layer->attention_norm
                                                 : &at->layer->feed_forward_norm;
    const int tokens = at->team->group->tokens, from = unit * ROWS_PER_UNIT;
    for (int row = from; row < tokens && row < from + ROWS_PER_UNIT; row++) {
        float *x = space->x + row * space->hidden_stride;
        float *sums = space->sums + row * space->hidden_stride;
        if (at->step == EMBED) embed_row(encoder, at->team->group, row, sums);
        encoder->variant->layer_norm(sums, x, encoder->hidden, norm->weight, norm->bias,
                                     encoder->eps);
        if (encoder->narrow)
            encoder->variant->narrow(x, space->x16 + row * space->hidden_stride, encoder->hidden);
    }
}

/* What a product reads and writes; x16 and y16 are for bfloat16. */
struct flow {
    const float *x;
    const uint16_t *x16;
    ptrdiff_t x_stride;
    float *y;
    uint16_t *y16;
    ptrdiff_t y_stride;
    const float *residual;
    enum activation activation;
};

/* One strip of a product, for all rows or one chunk of them. */
static void do_product(const struct stand *at, const struct flow *flow, const struct linear *linear,
                       int unit, const struct matrix *next) {
    const int count = chunks(at), chunk = unit % count, rows = at->team->group->tokens;
    const int from = chunk_start(rows, chunk, count), to = chunk_start(rows, chunk + 1, count);
    const ptrdiff_t x_from = from * flow->x_stride, y_from = from * flow->y_stride;
    const float *residual = flow->residual ? flow->residual + y_from : NULL;
    if (at->encoder->narrow) {
        const struct product16 p = {
            .x = flow->x16 + x_from, .x_stride = flow->x_stride, .panels = linear->panels,
            .bias = linear->bias, .residual = residual, .y = flow->y16 ? NULL : flow->y + y_from,
            .y16 = flow->y16 ? flow->y16 + y_from : NULL, .y_stride = flow->y_stride,
            .depth = linear->weight->rows, .count = to - from, .activation = flow->activation};
        at->encoder->variant->product16(&p, unit / count);
        return;
    }
    const struct product p = {
        .x = flow->x + x_from, .x_stride = flow->x_stride, .weight = linear->weight,
        .bias = linear->bias, .residual = residual, .y = flow->y + y_from,
        .y_stride = flow->y_stride, .count = to - from, .activation = flow->activation};
    at->encoder->variant->product(&p, unit / count, next);
}

static void do_query_key_value(const struct stand *at, int unit) {
    const struct workspace *space = at->team->space;
    const struct layer *layer = at->layer;
    const struct linear *linear[] = {&layer->query, &layer->key, &layer->value, &layer->output};
    float *y[] = {space->query, space->key, space->value};
    const int each = strips(at, at->encoder->hidden), which = unit / each;
    const struct flow flow = {.x = space->x, .x16 = space->x16, .x_stride = space->hidden_stride,
                              .y = y[which], .y_stride = space->hidden_stride};
    do_product(at, &flow, linear[which], unit % each, linear[which + 1]->weight);
}

static void do_output(const struct stand *at, int unit) {
    const struct workspace *space = at->team->space;
    const struct flow flow = {.x = space->mixed, .x16 = space->mixed16,
                              .x_stride = space->hidden_stride, .y = space->sums,
                              .y_stride = space->hidden_stride, .residual = space->x};
    do_product(at, &flow, &at->layer->output, unit, at->layer->up.weight);
}

static void do_up(const struct stand *at, int unit) {
    const struct workspace *space = at->team->space;
    const struct flow flow = {.x = space->x, .x16 = space->x16, .x_stride = space->hidden_stride,
                              .y = space->inner, .y16 = space->inner16,
                              .y_stride = space->inner_stride,
                              .activation = (enum activation)at->encoder->activation};
    do_product(at, &flow, &at->layer->up, unit, at->layer->down.weight);
}

static void do_down(const struct stand *at, int unit) {
    const struct workspace *space = at->team->space;
    const struct flow flow = {.x = space->inner, .x16 = space->inner16,
                              .x_stride = space->inner_stride, .y = space->sums,
                              .y_stride = space->hidden_stride, .residual = space->x};
    const struct matrix *next = at->next_layer ? at->next_layer->query.weight : NULL;
    do_product(at, &flow, &at->layer->down, unit, next);
}

static void do_attend(const struct stand *at, int unit, float *scratch) {
    const struct encoder *encoder = at->encoder;
    const struct workspace *space = at->team->space;
    const int *offset = at->team->group->offsets + unit / encoder->heads;
    const int head = unit % encoder->heads, width = encoder->hidden / encoder->heads;
    const ptrdiff_t stride = space->hidden_stride, from = offset[0] * stride + head * width;
    const int distances = 2 * encoder->longest - 1;
    struct attention attention = {
        .q = space->query + from, .k = space->key + from, .v = space->value + from,
        .y = space->mixed + from, .stride = stride, .y_stride = stride,
        .length = offset[1] - offset[0], .width = width, .window = -1,
        .scratch = scratch,
        .bias = encoder->relative ? encoder->relative + head * distances + encoder->longest - 1 : NULL};
    encoder->variant->attention(&attention);
    if (!encoder->narrow) return;
    for (int row = 0; row < attention.length; row++)
        encoder->variant->narrow(attention.y + row * stride, space->mixed16 + from + row * stride,
                                 width);
}

static void do_pool(const struct stand *at, int sequence, int states) {
    const struct encoder *encoder = at->encoder;
    const struct group *group = at->team->group;
    const struct workspace *space = at->team->space;
    const int from = group->offsets[sequence], to = group->offsets[sequence + 1];
    const size_t hidden = (size_t)encoder->hidden;
    const float *x = space->x + from * space->hidden_stride;
    if (states)
        for (int row = 0; row < to - from; row++)
            memcpy(group->answer + (size_t)(from + row) * hidden, x + row * space->hidden_stride,
                   hidden * sizeof(float));
    else if (to == from)
        memset(group->answer + (size_t)sequence * hidden, 0, hidden * sizeof(float));
    else
        encoder->variant->mean_rows(x, space->hidden_stride, encoder->first_token ? 1 : to - from,
                                    encoder->hidden, group->answer + (size_t)sequence * hidden);
}

static void do_unit(const struct job *job, const struct stand *at, const struct member *member,
                    int unit) {
    switch (at->step) {
    case QUERY_KEY_VALUE: do_query_key_value(at, unit); break;
    case ATTEND: do_attend(at, unit, member->scratch); break;
    case OUTPUT: do_output(at, unit); break;
    case UP: do_up(at, unit); break;
    case DOWN: do_down(at, unit); break;
    case POOL: do_pool(at, unit, job->states); break;
    default: do_rows(at, unit);
    }
}

/* -- teams ------------------------------------------------------------------------------------ */

/* Wait until all members have done this step; 0: stopped before that. */
static int arrive(const struct job *job, struct team *team, uint32_t step) {
    if (atomic_fetch_add(&team->arrived, 1) + 1 == team->size) {
        atomic_store(&team->arrived, 0);
        atomic_store(&team->step, step + 1);
        if (team->size > 1) wake_all(&team->step);
        return 1;
    }
    spin_on(&team->step, step);
    while (atomic_load(&team->step) == step) {
        if (stopped(job)) return 0;
        wait_on(&team->step, step);
    }
    return 1;
}

/* Do a member's part of all steps that are left; 0: stopped before the end. */
static int march(const struct job *job, struct team *team, struct member *member, int rank) {
    const uint32_t end = last_step(job->encoder) + 1;
    for (uint32_t step; (step = atomic_load(&team->step)) != end;) {
        const struct stand at = stand_at(job->encoder, team, step);
        const int64_t count = units(&at);
        const int from = (int)(count * rank / team->size), to = (int)(count * (rank + 1) / team->size);
        const int64_t begin = now();
        if (member->step != step) member->step = step, member->unit = from;
        for (; member->unit < to && !stopped(job); member->unit++)
            do_unit(job, &at, member, member->unit);
        const int arrived = member->unit == to && arrive(job, team, step);
        member->spent[at.step] += now() - begin;
        if (!arrived) return 0;
        if (rank == 0) share_beat();
    }
    return 1;
}

static int set_out(struct job *job, struct team *team, struct workspace *space, struct group *group,
                   int size) {
    const size_t rows = (size_t)(job->states ? group->tokens : group->sequences);
    group->answer = malloc(rows * (size_t)job->encoder->hidden * sizeof(float));
    if (!group->answer || !make_room(space, job->encoder, group->tokens)) return 0;
    team->group = group;
    team->space = space;
    team->size = size;
    atomic_store(&team->arrived, 0);
    atomic_store(&team->step, 0);
    return 1;
}

/* -- groups ----------------------------------------------------------------------------------- */

static struct group *new_group(int tokens) {
    struct group *group = calloc(1, sizeof *group);
    if (!group) return NULL;
    group->room_tokens = tokens > GROUP_TOKENS ? tokens : GROUP_TOKENS;
    group->room_sequences = GROUP_TOKENS;
    group->ids = malloc((size_t)group->room_tokens * 2 * sizeof(int32_t));
    group->offsets = calloc((size_t)group->room_sequences + 1, sizeof(int));
    group->positions = group->ids ? group->ids + group->room_tokens : NULL;
    return group;
}

static void free_group(struct group *group) {
    free(group->ids);
    free(group->offsets);
    free(group->answer);
    free(group);
}

/* Positions count from 0, or on from a padding id, which keeps that number itself (RoBERTa). */
static void count_positions(const struct encoder *encoder, const int32_t *ids, int count,
                            int32_t *positions) {
    for (int i = 0, seen = 0; i < count; i++) {
        if (encoder->padding_id < 0) positions[i] = i;
        else if (ids[i] == encoder->padding_id) positions[i] = encoder->padding_id;
        else positions[i] = encoder->padding_id + ++seen;
    }
}

static void append(struct group *group, const struct encoder *encoder, const int32_t *ids,
                   int count) {
    memcpy(group->ids + group->tokens, ids, (size_t)count * sizeof(int32_t));
    count_positions(encoder, ids, count, group->positions + group->tokens);
    group->tokens += count;
    group->offsets[++group->sequences] = group->tokens;
    if (count > group->longest) group->longest = count;
}

/* Put a full group where threads take them from. */
static void publish(struct job *job) {
    struct group *group = job->open;
    job->open = NULL;
    pthread_mutex_lock(&job->lock);
    if (job->last) job->last->next = group;
    else job->first = group;
    job->last = group;
    if (!job->waiting) job->waiting = group;
    pthread_mutex_unlock(&job->lock);
}

static struct group *take(struct job *job) {
    pthread_mutex_lock(&job->lock);
    struct group *group = job->waiting;
    if (group) job->waiting = group->next;
    pthread_mutex_unlock(&job->lock);
    return group;
}

/* Compute group after group, until there is none, the flag is set, or others need the core. */
static void work_alone(struct job *job, int rank) {
    struct team *team = &job->team[rank];
    struct member *member = &job->member[rank];
    while (!stopped(job)) {
        if (!team->group) {
            if (rank >= atomic_load(&job->members)) return;
            struct group *group = take(job);
            if (!group) return;
            member->step = UINT32_MAX;
            if (!set_out(job, team, &job->spaces[rank], group, 1) ||
                !make_scratch(member, job->encoder, group->longest)) {
                job->failed = 1;
                return;
            }
        }
        if (!march(job, team, member, 0)) return;
        team->group->done = 1;
        team->group = NULL;
        if (rank == 0) atomic_store(&job->members, share_now());
    }
}

static void work_together(struct job *job, int rank) {
    if (rank < job->team[0].size && march(job, &job->team[0], &job->member[rank], rank))
        job->team[0].group->done = 1;
}

static void run(void *what, int rank) {
    struct job *job = what;
    if (job->together) work_together(job, rank);
    else work_alone(job, rank);
}

/* -- jobs ------------------------------------------------------------------------------------- */

static int allowed(const struct job *job) {
    const int share = share_now();
    return job->threads && job->threads < share ? job->threads : share;
}

struct job *job_begin(const struct encoder *encoder, int threads, int states) {
    struct job *job = calloc(1, sizeof *job);
    if (!job) return NULL;
    job->encoder = encoder;
    job->threads = threads;
    job->states = states;
    job->crew = (struct crew){run, job};
    pthread_mutex_init(&job->lock, NULL);
    share_enter();
    job->crewed = crew_take(&job->crew);
    return job;
}

/* How many threads may work now: the setting, the share, and what the pool can give. */
static int muster(struct job *job) {
    share_beat();
    const int members = job->crewed ? crew_size(&job->crew, allowed(job)) : 1;
    atomic_store(&job->members, members);
    return members;
}

int job_add(struct job *job, const int32_t *ids, int count) {
    struct group *open = job->open;
    if (open && (open->tokens + count > open->room_tokens ||
                 open->sequences == open->room_sequences)) {
        publish(job);
        crew_call(&job->crew, muster(job));
        open = NULL;
    }
    if (!open) open = job->open = new_group(count);
    if (!open || !open->ids || !open->offsets) return 0;
    append(open, job->encoder, ids, count);
    return 1;
}

/* The only group: all threads work on it together. One after others: whoever is free takes it. */
static int close_job(struct job *job) {
    const int alone = !job->first;
    job->closed = 1;
    if (!job->open) return 1;
    publish(job);
    const int size = alone ? muster(job) : 1;
    if (size == 1) return 1;
    job->together = 1;
    for (int rank = 0; rank < size; rank++) {
        job->member[rank].step = UINT32_MAX;
        if (!make_scratch(&job->member[rank], job->encoder, job->first->longest)) return 0;
    }
    return set_out(job, &job->team[0], &job->spaces[0], job->first, size);
}

/* Groups whose threads had to go, when others needed the cores. */
static void finish_abandoned(struct job *job) {
    for (int rank = 1; rank < MOST_THREADS; rank++) {
        struct team *team = &job->team[rank];
        if (!team->group || !march(job, team, &job->member[rank], 0)) continue;
        team->group->done = 1;
        team->group = NULL;
    }
}

enum progress job_run(struct job *job) {
    if (!job->closed && !close_job(job)) return NO_MEMORY;
    if (job->together) atomic_store(&job->team[0].arrived, 0);
    crew_call(&job->crew, job->together ? job->team[0].size : muster(job));
    run(job, 0);
    if (job->crewed) crew_wait(&job->crew);
    if (job->failed) return NO_MEMORY;
    if (!job->together) finish_abandoned(job);
    for (struct group *group = job->first; group; group = group->next)
        if (!group->done) return STOPPED;
    return FINISHED;
}

const char *job_spent(const struct job *job, int step, double *seconds) {
    static const char *const names[] = {"embed",  "query, key, value", "attention", "output", "norm",
                                        "up",     "down",              "norm again", "pool"};
    int64_t total = 0;
    for (int rank = 0; rank < MOST_THREADS; rank++) total += job->member[rank].spent[step];
    *seconds = (double)total * 1e-9;
    return names[step];
}

size_t job_rows(const struct job *job) {
    size_t rows = 0;
    for (struct group *group = job->first; group; group = group->next)
        rows += (size_t)(job->states ? group->tokens : group->sequences);
    return rows;
}

void job_copy(const struct job *job, float *to) {
    for (struct group *group = job->first; group; group = group->next) {
        size_t rows = (size_t)(job->states ? group->tokens : group->sequences);
        memcpy(to, group->answer, rows * (size_t)job->encoder->hidden * sizeof(float));
        to += rows * (size_t)job->encoder->hidden;
    }
}

void job_end(struct job *job) {
    job->ended = 1;
    if (job->crewed) crew_release(&job->crew);
    share_leave();
    while (job->first) {
        struct group *next = job->first->next;
        free_group(job->first);
        job->first = next;
    }
    if (job->open) free_group(job->open);
    for (int rank = 0; rank < MOST_THREADS; rank++) {
        free(job->spaces[rank].memory);
        free(job->member[rank].scratch);
    }
    pthread_mutex_destroy(&job->lock);
    free(job);
}

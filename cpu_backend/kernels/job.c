/* A job: sequences come in, are gathered in groups, and computed by as many threads as there are.
 *
 * A batch of many texts is cut into groups, and each thread is a team of its own over a whole group:
 * nobody waits. A few texts are one group, and all threads are one team.
 */
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <malloc.h>
#endif

#include "deal.h"
#include "job.h"

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

/* How many tokens are enough for one thread: towards the end of a job, half of its part of what is
 * left, so that all finish at about the same time. */
static int enough(const struct job *job) {
    enum { LEAST = 48 };
    const int parts = 2 * atomic_load(&job->members);
    int left = 0;
    for (struct group *group = job->waiting; group; group = group->next) {
        left += group->tokens;
        if (left > parts * GROUP_TOKENS) return left;
    }
    return left / parts > LEAST ? left / parts : LEAST;
}

static struct group *take(struct job *job) {
    pthread_mutex_lock(&job->lock);
    struct group *group = job->waiting;
    if (group && !group->edits && job->closed && atomic_load(&job->members) > 1)
        split(group, job->encoder, enough(job));
    if (group && group == job->last && group->next) job->last = group->next;
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
            if (!set_out(job, team, &job->spaces[rank], group, 1) ||
                !make_scratch(member, job->encoder, group)) {
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
    atomic_store(&job->members, 1);
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

/* The group that takes so many more tokens; NULL when memory is short. */
static struct group *group_for(struct job *job, int tokens) {
    if (job->open && !group_has_room(job->open, tokens)) {
        publish(job);
        crew_call(&job->crew, muster(job));
    }
    if (!job->open) job->open = new_group(tokens);
    return job->open;
}

int job_add(struct job *job, const int32_t *ids, int count) {
    struct group *group = group_for(job, count);
    if (group) append(group, job->encoder, ids, count);
    return group != NULL;
}

int job_add_rows(struct job *job, const float *rows, int count) {
    struct group *group = group_for(job, count);
    if (group) append_rows(group, rows, count);
    return group != NULL;
}

int job_add_edited(struct job *job, struct group_edits *edits, int rows) {
    job->open = new_group(rows);
    if (job->open) job->open->edits = edits;
    else free_edits(edits);
    return job->open != NULL;
}

/* About how many multiplications all linear maps take for so many tokens. */
static double multiplications(const struct encoder *encoder, int tokens) {
    const double hidden = encoder->hidden, inner = encoder->intermediate;
    return encoder->layer_count * (4 * hidden + 2 * inner) * hidden * tokens;
}

/* The only group: all threads work on it together, if it is worth waking them. One after others:
 * whoever is free takes it. */
static int close_job(struct job *job) {
    const int tokens = job->first ? 0 : job->open ? job->open->tokens : 0;
    pthread_mutex_lock(&job->lock);
    job->closed = 1;
    pthread_mutex_unlock(&job->lock);
    if (!job->open) return 1;
    publish(job);
    const int size = multiplications(job->encoder, tokens) < WORTH_WAKING ? 1 : muster(job);
    if (size == 1) return 1;
    job->together = 1;
    if (!set_out(job, &job->team[0], &job->spaces[0], job->first, size)) return 0;
    for (int rank = 0; rank < size; rank++)
        if (!make_scratch(&job->member[rank], job->encoder, job->first)) return 0;
    return 1;
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
    const int several = job->first && job->first->next;
    crew_call(&job->crew, job->together ? job->team[0].size : several ? muster(job) : 1);
    run(job, 0);
    if (job->crewed) crew_wait(&job->crew);
    if (job->failed) return NO_MEMORY;
    if (!job->together) finish_abandoned(job);
    for (struct group *group = job->first; group; group = group->next)
        if (!group->done) return STOPPED;
    return FINISHED;
}

const char *job_spent(const struct job *job, enum step step, double *seconds) {
    static const char *const names[] = {
        "embed",  "prepare input",  "query, key, value", "attention",  "quantize mixed",
        "prepare mixed", "output",  "norm",  "prepare normed", "up",   "quantize inner",
        "prepare inner", "down",    "norm again",        "pool"};
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

/* What a batch took goes back to the system: a connection may be idle for long. */
static void give_memory_back(void) {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

void job_end(struct job *job) {
    const int several = job->first && job->first->next;
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
    if (several) give_memory_back();
}

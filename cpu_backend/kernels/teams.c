/* Teams: threads that compute one group together, step by step.
 *
 * Each member has a range of a step's units of its own, neighbours whose weights follow each other in
 * memory. It takes them from the front; when it has none left, it takes others' from the back. So a
 * member that is late, or that the system lets wait, is not waited for: only a unit that was begun is.
 *
 *      range   | step, 16 bits | from, 24 bits | to, 24 bits |      one word for each member
 *
 * Who does the last unit of a step deals out the next one. When the interrupt flag is set, every
 * member leaves after the unit it is at; what is left of the ranges is where the next call goes on.
 */
#include <stdlib.h>

#include "job.h"

enum { UNIT_BITS = 24, UNIT_MASK = (1 << UNIT_BITS) - 1 };

static volatile int nobody;
volatile int *interrupt_flag = &nobody;

int stopped(const struct job *job) { return *interrupt_flag || job->ended; }

static uint64_t range_of(uint32_t step, uint64_t from, uint64_t to) {
    return (uint64_t)step << 2 * UNIT_BITS | from << UNIT_BITS | to;
}

static uint64_t units_of(const struct encoder *encoder, struct team *team, uint32_t step) {
    const struct stand at = stand_at(encoder, team, step);
    if (is_edited(&at)) plan_step(&at);
    return (uint64_t)units(&at);
}

/* Others may have done a step that was dealt out, and the next, before it is told: never go back. */
static void tell(struct team *team, uint32_t step) {
    uint32_t told = atomic_load(&team->step);
    while (told < step && !atomic_compare_exchange_weak(&team->step, &told, step)) continue;
    if (atomic_load(&team->asleep)) wake_all(&team->step);
}

/* Deal out the units of a step, or of the next one that has any; all before are done. The last range
 * is never empty, so a step is done only after all its ranges were written. */
static void deal_out(const struct encoder *encoder, struct team *team, uint32_t step) {
    const uint64_t size = (uint64_t)team->size;
    uint64_t count = 0;
    while (step <= last_step(encoder) && !(count = units_of(encoder, team, step))) step++;
    atomic_store(&team->left, (int)count);
    for (uint64_t rank = 0; rank < size; rank++)
        atomic_store(&team->range[rank],
                     range_of(step, count * rank / size, count * (rank + 1) / size));
    tell(team, step);
}

int set_out(struct job *job, struct team *team, struct workspace *space, struct group *group,
            int size) {
    const size_t rows = (size_t)(job->states ? group->tokens : group->sequences);
    group->answer = malloc(rows * (size_t)job->encoder->hidden * sizeof(float));
    if (!group->answer || !make_room(space, job->encoder, group->tokens)) return 0;
    team->group = group;
    team->space = space;
    team->size = size;
    if (group->edits && !make_edits_room(job->encoder, team)) return 0;
    atomic_store(&team->step, 0);
    deal_out(job->encoder, team, 0);
    return 1;
}

/* Take a unit of a range: its first, or its last; 0: there is none. */
static int take_unit(_Atomic uint64_t *range, int first, uint32_t *step, int *unit) {
    uint64_t old = atomic_load(range);
    for (;;) {
        const uint64_t from = old >> UNIT_BITS & UNIT_MASK, to = old & UNIT_MASK;
        if (from == to) return 0;
        *step = (uint32_t)(old >> 2 * UNIT_BITS);
        *unit = (int)(first ? from : to - 1);
        if (atomic_compare_exchange_weak(range, &old, first ? range_of(*step, from + 1, to)
                                                            : range_of(*step, from, to - 1)))
            return 1;
    }
}

static int find_unit(struct team *team, int rank, uint32_t *step, int *unit) {
    int found = take_unit(&team->range[rank], 1, step, unit);
    for (int i = 1; i < team->size && !found; i++)
        found = take_unit(&team->range[(rank + i) % team->size], 0, step, unit);
    return found;
}

/* Wait until the units of a step that others are at are done; 0: stopped before that. */
static int await(const struct job *job, struct team *team, uint32_t step) {
    spin_on(&team->step, step);
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load(&team->step) == step && !stopped(job)) wait_on(&team->step, step);
    atomic_fetch_sub(&team->asleep, 1);
    return atomic_load(&team->step) != step;
}

/* Count the time since `begun` to the step that a member was at. */
static int64_t count_time(struct member *member, const struct stand *at, int64_t begun) {
    const int64_t moment = now();
    if (at->encoder) member->spent[at->step] += moment - begun;
    return moment;
}

/* The weights that a member reads after a unit of a product: of its next unit of the step, or of its
 * first one of the next step that is a product. */
static struct ahead ahead_of(const struct stand *at, uint32_t step, int rank) {
    struct team *team = at->team;
    const uint64_t own = atomic_load_explicit(&team->range[rank], memory_order_relaxed);
    const uint64_t from = own >> UNIT_BITS & UNIT_MASK, to = own & UNIT_MASK;
    if (!is_product(at->step) || is_edited(at)) return (struct ahead){NULL, 0};
    if (from < to) return product_weights(at, (int)from);
    while (++step < last_step(at->encoder)) {
        const struct stand later = stand_at(at->encoder, team, step);
        if (is_product(later.step))
            return product_weights(&later, product_units(&later) * rank / team->size);
    }
    return (struct ahead){NULL, 0};
}

int march(const struct job *job, struct team *team, struct member *member, int rank) {
    const uint32_t end = last_step(job->encoder) + 1;
    struct stand at = {.encoder = NULL};
    int64_t begun = now();
    for (uint32_t current, step, last = end; (current = atomic_load(&team->step)) != end;) {
        int unit;
        if (stopped(job)) return 0;
        if (!find_unit(team, rank, &step, &unit)) {
            if (!await(job, team, current)) return 0;
            continue;
        }
        if (step != last) {
            begun = count_time(member, &at, begun);
            at = stand_at(job->encoder, team, last = step);
            if (rank == 0) share_beat();
        }
        do_unit(&at, unit, ahead_of(&at, step, rank), member->scratch, job->states);
        if (atomic_fetch_sub(&team->left, 1) == 1) deal_out(job->encoder, team, step + 1);
    }
    count_time(member, &at, begun);
    return 1;
}

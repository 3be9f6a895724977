/* Teams: threads that compute one group together, step by step.
 *
 * Each member does its share of a step's units and waits for the others at the step's end. When the
 * interrupt flag is set, every member leaves after the unit it is at and remembers it; the next call
 * goes on from there. Whether a team has finished a step is known to one word alone, which the last
 * member to arrive moves on, so nobody is left waiting for one who has gone.
 */
#include <stdlib.h>

#include "job.h"

static volatile int nobody;
volatile int *interrupt_flag = &nobody;

int stopped(const struct job *job) { return *interrupt_flag || job->ended; }

int set_out(struct job *job, struct team *team, struct workspace *space, struct group *group,
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

int march(const struct job *job, struct team *team, struct member *member, int rank) {
    const uint32_t end = last_step(job->encoder) + 1;
    for (uint32_t step; (step = atomic_load(&team->step)) != end;) {
        const struct stand at = stand_at(job->encoder, team, step);
        const int64_t count = units(&at);
        const int from = (int)(count * rank / team->size), to = (int)(count * (rank + 1) / team->size);
        const int64_t begin = now();
        if (member->step != step) member->step = step, member->unit = from;
        for (; member->unit < to && !stopped(job); member->unit++)
            do_unit(&at, member->unit, member->scratch, job->states);
        const int arrived = member->unit == to && arrive(job, team, step);
        member->spent[at.step] += now() - begin;
        if (!arrived) return 0;
        if (rank == 0) share_beat();
    }
    return 1;
}

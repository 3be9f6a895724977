/* How the cores are shared out over processes.
 *
 * A small file that all processes of a cluster map has a slot for each of them:
 *
 *      slot  | process id | time of the last sign of life, 0 when idle | (64 bytes)
 *
 * Who is at work writes the time into its slot every few milliseconds, so a process that was killed
 * counts for a second and no longer, whatever its number is given to next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "threads.h"

struct slot {
    _Atomic int32_t process;
    _Atomic int64_t sign;
    char rest[64 - 16];
};

static const int64_t ALIVE = 1000000000; /* nanoseconds */

static struct slot *slots, *own;
static size_t count;
static int cores = 1;

int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static struct slot *claim(void) {
    const int32_t self = (int32_t)getpid();
    for (size_t i = 0; i < count; i++) {
        int32_t holder = atomic_load(&slots[i].process);
        if (holder == self) return &slots[i];
        if (holder && (!kill(holder, 0) || errno != ESRCH)) continue;
        if (atomic_compare_exchange_strong(&slots[i].process, &holder, self)) return &slots[i];
    }
    return NULL;
}

void share_through(void *memory, size_t bytes, int processors) {
    slots = memory;
    count = bytes / sizeof(struct slot);
    cores = processors < 1 ? 1 : processors > MOST_THREADS ? MOST_THREADS : processors;
    own = NULL;
}

void share_beat(void) {
    if (own) atomic_store_explicit(&own->sign, now(), memory_order_relaxed);
}

void share_enter(void) {
    static int32_t owner; /* a child of ours needs a slot of its own */
    if (slots && (!own || owner != (int32_t)getpid())) own = claim(), owner = (int32_t)getpid();
    share_beat();
}

void share_leave(void) {
    if (own) atomic_store_explicit(&own->sign, 0, memory_order_relaxed);
}

int share_now(void) {
    int others = 0;
    const int64_t since = slots && cores > 1 ? now() - ALIVE : 0;
    for (size_t i = 0; since && i < count && atomic_load(&slots[i].process); i++)
        others += &slots[i] != own && atomic_load(&slots[i].sign) > since;
    int share = cores / (1 + others);
    return share < 1 ? 1 : share;
}

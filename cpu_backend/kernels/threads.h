/* A pool of threads, and how they wait for each other. */
#ifndef PAGEFORMER_THREADS_H
#define PAGEFORMER_THREADS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_THREADS = 64 };

/* Sleep until *word is not `value` any more, somebody wakes us, or a millisecond has passed. */
void wait_on(_Atomic uint32_t *word, uint32_t value);
void wake_all(_Atomic uint32_t *word);

/* Spin while *word is `value`, for as long as it is cheaper than being woken. */
void spin_on(_Atomic uint32_t *word, uint32_t value);

/* What the threads of the pool are to do: `run(what, rank)` by the ranks 1 .. members - 1, once for
 * each time that they are called. */
struct crew {
    void (*run)(void *what, int rank);
    void *what;
};

/* Take the pool, unless it is somebody else's already; 1 when it is ours now. */
int crew_take(struct crew *crew);
void crew_release(struct crew *crew);

/* Start threads for up to `members`, the caller included, with signals blocked: those stay with the
 * caller's thread. Returns how many members there can be; 1 without the pool. */
int crew_size(struct crew *crew, int members);

/* Call ranks 1 .. members - 1, of as many as crew_size gave. */
void crew_call(struct crew *crew, int members);

/* The caller has done its part: who has not begun need not begin; wait for the others. */
void crew_wait(struct crew *crew);

/* Nanoseconds of a clock that only goes forward. */
int64_t now(void);

/* How many threads a call may use now: the cores, shared with the other processes that are at
 * work, as told by the slots of a file that all of them map. */
void share_through(void *slots, size_t bytes, int cores);
void share_enter(void);
void share_beat(void);
void share_leave(void);
int share_now(void);

#endif

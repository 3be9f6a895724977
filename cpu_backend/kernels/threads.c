/* A pool of threads that sleep when there is nothing to do.
 *
 * One pool to a process. It serves one crew at a time; who comes second computes alone. After a
 * fork the child starts with an empty pool: threads are not inherited.
 */
#define _GNU_SOURCE
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

enum { SPIN_NANOSECONDS = 50000, STACK_BYTES = 512 * 1024 };

static const struct timespec MILLISECOND = {0, 1000000};

void wait_on(_Atomic uint32_t *word, uint32_t value) {
#if defined(__linux__)
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &MILLISECOND, NULL, 0);
#else
    if (atomic_load(word) == value) nanosleep(&(struct timespec){0, 50000}, NULL);
#endif
}

void wake_all(_Atomic uint32_t *word) {
#if defined(__linux__)
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#else
    (void)word;
#endif
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* To be woken takes as long as a step of a short text: those who are not alone do not come here. */
void spin_on(_Atomic uint32_t *word, uint32_t value) {
    const int64_t end = now() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value) return;
            relax();
        }
    } while (now() < end);
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t called, idle;
    struct crew *crew;               /* whom the pool serves */
    int threads;                     /* started so far */
    int working;                     /* of them, at work */
    uint64_t due;                    /* a bit for each rank that was called and has not begun */
    pthread_t thread[MOST_THREADS];  /* by rank */
    int kept_off[MOST_THREADS];      /* 1 + the core that this one keeps off, or 0 */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .called = PTHREAD_COND_INITIALIZER,
          .idle = PTHREAD_COND_INITIALIZER};

static void *work(void *argument) {
    const int rank = (int)(intptr_t)argument;
    const uint64_t mine = UINT64_C(1) << rank;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (!(pool.due & mine)) pthread_cond_wait(&pool.called, &pool.lock);
        pool.due &= ~mine;
        struct crew *crew = pool.crew;
        pool.working++;
        pthread_mutex_unlock(&pool.lock);
        crew->run(crew->what, rank);
        pthread_mutex_lock(&pool.lock);
        pool.working--;
        if (!pool.working) pthread_cond_broadcast(&pool.idle);
    }
    return NULL;
}

static void start_threads(int wanted) {
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (pool.threads < wanted) {
        const int rank = pool.threads + 1;
        if (pthread_create(&pool.thread[rank], &attributes, work, (void *)(intptr_t)rank)) break;
        pool.kept_off[rank] = 0;
        pool.threads++;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void forget_after_fork(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.called, NULL);
    pthread_cond_init(&pool.idle, NULL);
    pool.crew = NULL;
    pool.threads = pool.working = 0;
    pool.due = 0;
}

static void hold_over_fork(void) { pthread_mutex_lock(&pool.lock); }
static void let_go_after_fork(void) { pthread_mutex_unlock(&pool.lock); }
static void watch_forks(void) {
    pthread_atfork(hold_over_fork, let_go_after_fork, forget_after_fork);
}

int crew_take(struct crew *crew) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&pool.lock);
    int ours = !pool.crew || pool.crew == crew;
    if (ours) pool.crew = crew;
    pthread_mutex_unlock(&pool.lock);
    return ours;
}

int crew_size(struct crew *crew, int members) {
    pthread_mutex_lock(&pool.lock);
    if (members > MOST_THREADS) members = MOST_THREADS;
    if (members < 1 || pool.crew != crew) members = 1;
    if (members - 1 > pool.threads) start_threads(members - 1);
    if (members - 1 > pool.threads) members = pool.threads + 1;
    pthread_mutex_unlock(&pool.lock);
    return members;
}

/* On a machine of few cores the system often wakes a thread on the core of its caller, who is at work
 * there, and moves it milliseconds later: longer than a short text takes. */
static void keep_off_own_core(int members) {
#if defined(__linux__)
    cpu_set_t others;
    const int core = sched_getcpu();
    if (core < 0 || sched_getaffinity(0, sizeof others, &others)) return;
    CPU_CLR(core, &others);
    if (!CPU_COUNT(&others)) return;
    for (int rank = 1; rank < members; rank++) {
        if (pool.kept_off[rank] == core + 1) continue;
        pthread_setaffinity_np(pool.thread[rank], sizeof others, &others);
        pool.kept_off[rank] = core + 1;
    }
#else
    (void)members;
#endif
}

void crew_call(struct crew *crew, int members) {
    if (members <= 1) return;
    pthread_mutex_lock(&pool.lock);
    if (pool.crew == crew) {
        keep_off_own_core(members);
        for (int rank = 1; rank < members; rank++) pool.due |= UINT64_C(1) << rank;
        pthread_cond_broadcast(&pool.called);
    }
    pthread_mutex_unlock(&pool.lock);
}

void crew_wait(struct crew *crew) {
    pthread_mutex_lock(&pool.lock);
    if (pool.crew == crew) {
        pool.due = 0;
        while (pool.working) pthread_cond_wait(&pool.idle, &pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
}

void crew_release(struct crew *crew) {
    crew_wait(crew);
    pthread_mutex_lock(&pool.lock);
    if (pool.crew == crew) pool.crew = NULL;
    pthread_mutex_unlock(&pool.lock);
}

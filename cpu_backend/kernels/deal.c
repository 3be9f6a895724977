#include "deal.h"

#include "threads.h"

struct dealt {
    void (*unit)(void *what, int unit, int rank);
    void *what;
    int count;
    _Atomic int next;
};

static void work(void *object, int rank) {
    struct dealt *dealt = object;
    for (int unit; (unit = atomic_fetch_add(&dealt->next, 1)) < dealt->count;)
        dealt->unit(dealt->what, unit, rank);
}

int deal_members(double multiplications) {
    if (multiplications < WORTH_WAKING) return 1;
    share_enter(); /* not left: that sign of life is over a second after the last deal */
    return share_now();
}

void deal(int count, int members, void (*unit)(void *what, int unit, int rank), void *what) {
    struct dealt dealt = {unit, what, count, 0};
    struct crew crew = {work, &dealt};
    if (members > count) members = count;
    const int crewed = members > 1 && crew_take(&crew);
    members = crewed ? crew_size(&crew, members) : 1;
    crew_call(&crew, members);
    work(&dealt, 0);
    if (crewed) crew_release(&crew);
}

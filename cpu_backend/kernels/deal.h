/* Units of work that are dealt out to threads, one after another to whoever is free. */
#ifndef PAGEFORMER_DEAL_H
#define PAGEFORMER_DEAL_H

/* How many threads this process may use now. */
int deal_members(void);

/* Compute units 0 .. count - 1 of `what` on up to `members` threads, whom `rank` tells apart.
 * Returns when all are done. */
void deal(int count, int members, void (*unit)(void *what, int unit, int rank), void *what);

#endif

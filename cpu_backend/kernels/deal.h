/* Units of work that are dealt out to threads, one after another to whoever is free. */
#ifndef PAGEFORMER_DEAL_H
#define PAGEFORMER_DEAL_H

/* Multiplications that take one core some ten microseconds. */
#define WORTH_WAKING 1e6

/* How many threads this process may use now, for about so many multiplications: for few of them it
 * takes longer to wake another one. */
int deal_members(double multiplications);

/* Compute units 0 .. count - 1 of `what` on up to `members` threads, whom `rank` tells apart.
 * Returns when all are done. */
void deal(int count, int members, void (*unit)(void *what, int unit, int rank), void *what);

#endif

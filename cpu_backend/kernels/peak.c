/* The peak of a core: the multiply-adds of a tile of matmul_f32.c, on registers alone.
 *
 * Included by each variant_*.c. What products reach is told beside it by `pageformer profile`.
 */
#include "threads.h"

static volatile float known_at_run_time = 0.5f;
static volatile float kept;

/* Float operations in a nanosecond: the best of several tries, since others use the core as well. */
static double peak(void) {
    enum { TRIES = 16, TURNS = 1 << 17 };
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        const vec factor = splat(known_at_run_time), term = splat(known_at_run_time);
        vec sums[ROWS][COLUMNS], all = {0};
        for (int j = 0; j < ROWS * COLUMNS; j++) sums[j / COLUMNS][j % COLUMNS] = splat((float)j);
        const int64_t begin = now();
        for (int turn = 0; turn < TURNS; turn++)
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
                for (int c = 0; c < COLUMNS; c++) sums[r][c] = sums[r][c] * factor + term;
        const double rate = 2.0 * TURNS * ROWS * COLUMNS * VECTOR / (double)(now() - begin);
        if (rate > best) best = rate;
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++) all += sums[r][c];
        kept = sum(all);
    }
    return best;
}

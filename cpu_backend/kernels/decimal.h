/* Decimal text of float32. */
#ifndef PAGEFORMER_DECIMAL_H
#define PAGEFORMER_DECIMAL_H

#include <stdint.h>

enum { LONGEST_FLOAT = 16 }; /* characters of one float, a comma with it */

/* Write x and return where it ends; no terminating zero. */
char *write_float(char *to, float x);

/* Write [x0,x1,...]. Needs LONGEST_FLOAT characters for each, and two more. */
char *write_vector(char *to, const float *x, int count);

#endif

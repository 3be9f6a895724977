/* The kernels, compiled for the vectors that the including variant_*.c has chosen: VECTOR floats
 * to a vector, tiles of ROWS x COLUMNS vectors, and the instructions that its pragma allows. */
#include "kernels.h"
#include "vectors.h"

#include "matmul_f32.c"

#include "attention.c"
#include "rows.c"

#define KERNELS                                                                        \
    .strip = COLUMNS * VECTOR, .product = product, .attention = attention,             \
    .attention_scratch = attention_scratch, .layer_norm = layer_norm,                  \
    .add_rows = add_rows, .mean_rows = mean_rows, .normalize = normalize

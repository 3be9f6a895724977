/* The kernels, compiled for the vectors that the including variant_*.c has chosen: VECTOR floats
 * to a vector, tiles of ROWS x COLUMNS vectors, and the instructions that its pragma allows. */
#ifndef HAS_BF16
#define HAS_BF16 0
#endif
#ifndef HAS_VNNI
#define HAS_VNNI 0
#endif
#ifndef HAS_AMX
#define HAS_AMX 0
#endif

#include "kernels.h"
#include "vectors.h"

#include "matmul_f32.c"
#include "matmul_panels.c"
#include "matmul_bf16.c"
#include "matmul_int8.c"

#include "attention.c"
#include "attention_bf16.c"
#include "rows.c"
#include "edits.c"
#include "ends.c"
#include "peak.c"

#define KERNELS                                                                                    \
    .strip = STRIP, .product = product, .product16 = product16, .product8 = product8,              \
    .narrow = narrow, .quantize = quantize, .attention = attention, .attention16 = ATTENTION16,    \
    .attention_scratch = attention_scratch, .layer_norm = layer_norm, .add_rows = add_rows,        \
    .mean_rows = mean_rows, .normalize = normalize, .edited_strip = edited_strip,                   \
    .prepare_rows = prepare_rows, .end_rows = end_rows, .ending_scratch = ending_scratch,        \
    .peak = peak

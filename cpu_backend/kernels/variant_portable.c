/* The kernels for every processor, by the compiler's vectors of 4 floats: SSE2 and NEON have them,
 * others get loops. 16 registers hold a tile of 6 x 8; Arm's 32 one of 6 x 16. */
#define VECTOR 4
#define ROWS 6
#if defined(__aarch64__)
#define COLUMNS 4
#else
#define COLUMNS 2
#endif
#include "variant.h"

static int supported(void) { return 1; }

const struct variant variant_portable = {.name = "portable", .supported = supported, KERNELS};

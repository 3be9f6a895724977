/* Which variants of the kernels this machine can run, best first. */
#include "kernels.h"

static const struct variant *const every[] = {&variant_amx, &variant_avx512_bf16, &variant_avx512_vnni,
                                             &variant_avx512, &variant_avx2, &variant_portable};

const struct variant *const *available_variants(void) {
    static const struct variant *found[sizeof every / sizeof *every + 1];
    if (!found[0]) {
        size_t count = 0;
        for (size_t i = 0; i < sizeof every / sizeof *every; i++)
            if (every[i]->supported()) found[count++] = every[i];
    }
    return found;
}

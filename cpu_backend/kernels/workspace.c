/* Memory for the activations of a group: every matrix in the forms that the encoder computes in.
 *
 *                 FLOAT32   BFLOAT16     INT8               rows lie a whole number of strips apart,
 *      x          wide      wide half    wide half bytes    and not a power of two, which would
 *      sums       wide      wide         wide               crowd a few sets of the caches;
 *      q, k, v    wide      half *       half *             * wide where the processor does not
 *      mixed      wide      half *       half * bytes         multiply bfloat16, and attention is
 *      inner      wide      half         half bytes           computed in float32
 */
#include <stdlib.h>
#include <string.h>

#include "job.h"

enum { WIDE = 1, HALF = 2, BYTES = 4 };

static ptrdiff_t stride_of(int width) {
    ptrdiff_t stride = (width + 31) / 32 * 32;
    return stride % 128 ? stride : stride + 32;
}

static void *aligned_memory(size_t size) {
    void *memory = NULL;
    return posix_memalign(&memory, 64, size + 64) ? NULL : memory;
}

/* Cut the next piece off; with NULL for memory, only count. */
static void *cut(const struct workspace *space, size_t *at, size_t size) {
    void *piece = space->memory ? space->memory + *at : NULL;
    *at += (size + 63) / 64 * 64;
    return piece;
}

static void place(const struct workspace *space, size_t *at, struct rows *rows, int width,
                  size_t count, int forms) {
    rows->stride = stride_of(width);
    const size_t elements = count * (size_t)rows->stride;
    rows->wide = forms & WIDE ? cut(space, at, elements * sizeof(float)) : NULL;
    rows->half = forms & HALF ? cut(space, at, elements * sizeof(uint16_t)) : NULL;
    rows->bytes = forms & BYTES ? cut(space, at, elements) : NULL;
    rows->scales = forms & BYTES ? cut(space, at, count * sizeof(struct scale)) : NULL;
}

static size_t lay_out(struct workspace *space, const struct encoder *encoder, int tokens) {
    const int most = encoder->form == FLOAT32 ? 1 : 32; /* tiles of AMX read whole */
    const size_t count = (size_t)((tokens + most - 1) / most * most);
    const int half = encoder->form == FLOAT32 ? 0 : HALF;
    const int bytes = encoder->form == INT8 ? BYTES : 0;
    const int hidden = encoder->hidden, pairs = hidden / encoder->heads % 2 == 0;
    const int attended = half && pairs && encoder->variant->attention16 ? HALF : WIDE;
    size_t at = 0;
    place(space, &at, &space->x, hidden, count, WIDE | half | bytes);
    place(space, &at, &space->sums, hidden, count, WIDE);
    place(space, &at, &space->query, hidden, count, attended);
    place(space, &at, &space->key, hidden, count, attended);
    place(space, &at, &space->value, hidden, count, attended);
    place(space, &at, &space->mixed, hidden, count, attended | half | bytes);
    place(space, &at, &space->inner, encoder->intermediate, count, half ? half | bytes : WIDE);
    return at;
}

int make_room(struct workspace *space, const struct encoder *encoder, int tokens) {
    const size_t size = lay_out(&(struct workspace){.memory = NULL}, encoder, tokens);
    if (size > space->size) {
        free(space->memory);
        space->memory = aligned_memory(size);
        space->size = space->memory ? size : 0;
        if (!space->memory) return 0;
        if (encoder->form != FLOAT32) memset(space->memory, 0, size); /* panels read rows past the end */
    }
    lay_out(space, encoder, tokens);
    return 1;
}

int make_scratch(struct member *member, const struct encoder *encoder, const struct group *group) {
    const int width = encoder->hidden / encoder->heads;
    size_t floats = encoder->variant->attention_scratch(group->longest, width);
    if (edits_scratch(group) > floats) floats = edits_scratch(group);
    if (floats <= member->scratch_floats) return 1;
    free(member->scratch);
    member->scratch = aligned_memory(floats * sizeof(float));
    member->scratch_floats = member->scratch ? floats : 0;
    return member->scratch != NULL;
}

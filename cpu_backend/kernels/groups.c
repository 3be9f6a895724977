/* Groups of sequences: what one team computes at a time. */
#include <stdlib.h>
#include <string.h>

#include "job.h"

void free_group(struct group *group) {
    free(group->ids);
    free(group->offsets);
    free(group->answer);
    free_edits(group->edits);
    free(group);
}

struct group *new_group(int tokens) {
    struct group *group = calloc(1, sizeof *group);
    if (!group) return NULL;
    group->room_tokens = tokens > GROUP_TOKENS ? tokens : GROUP_TOKENS;
    group->room_sequences = group->room_tokens;
    group->ids = malloc((size_t)group->room_tokens * 2 * sizeof(int32_t));
    group->offsets = calloc((size_t)group->room_sequences + 1, sizeof(int));
    if (!group->ids || !group->offsets) {
        free_group(group);
        return NULL;
    }
    group->positions = group->ids + group->room_tokens;
    return group;
}

/* Positions count from 0, or on from a padding id, which keeps that number itself (RoBERTa). */
static void count_positions(const struct encoder *encoder, const int32_t *ids, int count,
                            int32_t *positions) {
    for (int i = 0, seen = 0; i < count; i++) {
        if (encoder->padding_id < 0) positions[i] = i;
        else if (ids[i] == encoder->padding_id) positions[i] = encoder->padding_id;
        else positions[i] = encoder->padding_id + ++seen;
    }
}

int group_has_room(const struct group *group, int tokens) {
    return group->tokens + tokens <= group->room_tokens &&
           group->sequences < group->room_sequences;
}

static void end_sequence(struct group *group, int count) {
    group->tokens += count;
    group->offsets[++group->sequences] = group->tokens;
    if (count > group->longest) group->longest = count;
}

void append(struct group *group, const struct encoder *encoder, const int32_t *ids, int count) {
    memcpy(group->ids + group->tokens, ids, (size_t)count * sizeof(int32_t));
    count_positions(encoder, ids, count, group->positions + group->tokens);
    end_sequence(group, count);
}

/* Rows stay where they are; those of a group lie in one piece, since they are added in order. */
void append_rows(struct group *group, const float *rows, int count) {
    if (!group->tokens) group->rows = rows;
    end_sequence(group, count);
}

/* The first sequences of a group, at least `tokens` of theirs, stay; the others, if there are any, go
 * into a new group behind it. Without memory all stay. */
void split(struct group *group, const struct encoder *encoder, int tokens) {
    int kept = 1;
    while (kept < group->sequences && group->offsets[kept] < tokens) kept++;
    const int from = group->offsets[kept], moved = group->tokens - from;
    struct group *rest = kept < group->sequences ? new_group(moved) : NULL;
    if (!rest) return;
    memcpy(rest->ids, group->ids + from, (size_t)moved * sizeof(int32_t));
    memcpy(rest->positions, group->positions + from, (size_t)moved * sizeof(int32_t));
    if (group->rows) rest->rows = group->rows + (ptrdiff_t)from * encoder->hidden;
    for (int s = kept; s < group->sequences; s++)
        rest->offsets[++rest->sequences] = group->offsets[s + 1] - from;
    rest->tokens = moved;
    rest->longest = group->longest;
    rest->next = group->next;
    group->next = rest;
    group->sequences = kept;
    group->tokens = from;
}

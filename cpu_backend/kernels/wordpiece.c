/* Text to pieces, as the tokenizers library does it for BERT: its clean-up of text, its words, and
 * longest match first. Tests hold it to the library. */
#include "wordpiece.h"

#include <string.h>

enum { FIRST_HASH = 0x811c9dc5, NEXT_HASH = 0x9e3779b9 }; /* at a word's beginning, and later on */
enum kind { LETTER, SPACE, MARK, NOTHING };

static const struct table_slot *slots_of(const struct table_head *table) {
    return (const struct table_slot *)(table + 1);
}

static uint32_t hash_on(uint32_t hash, char letter) { /* FNV-1a */
    return (hash ^ (uint8_t)letter) * 0x01000193;
}

int is_table(const struct table_head *table, size_t bytes) {
    const uint32_t slots = bytes < sizeof *table ? 0 : table->slots;
    return slots && !(slots & (slots - 1)) && table->mark == TABLE_MARK && table->bytes <= bytes &&
           sizeof *table + slots * sizeof(struct table_slot) <= bytes;
}

void add_piece(struct table_head *table, uint32_t at, uint32_t length, int goes_on, int32_t id) {
    const char *piece = (const char *)table + at;
    struct table_slot *slots = (struct table_slot *)(table + 1);
    uint32_t hash = goes_on ? NEXT_HASH : FIRST_HASH;
    for (uint32_t i = 0; i < length; i++) hash = hash_on(hash, piece[i]);
    while (slots[hash &= table->slots - 1].length) hash++;
    slots[hash] = (struct table_slot){at, (uint16_t)length, (uint16_t)goes_on, id};
    if (length > table->longest) table->longest = length;
}

static const struct table_slot *look_up(const struct table_head *table, uint32_t hash,
                                        const char *letters, uint32_t length, int goes_on) {
    const struct table_slot *slots = slots_of(table), *slot;
    for (; (slot = &slots[hash & (table->slots - 1)])->length; hash++)
        if (slot->length == length && slot->goes_on == goes_on &&
            !memcmp((const char *)table + slot->at, letters, length))
            return slot;
    return NULL;
}

/* The longest piece that letters begin with; NULL: there is none. */
static const struct table_slot *longest_piece(const struct table_head *table, const char *letters,
                                              uint32_t count, int goes_on) {
    uint32_t hashes[LONGEST_WORD];
    uint32_t hash = goes_on ? NEXT_HASH : FIRST_HASH;
    if (count > table->longest) count = table->longest;
    for (uint32_t i = 0; i < count; i++) hashes[i] = hash = hash_on(hash, letters[i]);
    const struct table_slot *found = NULL;
    for (; count && !found; count--)
        found = look_up(table, hashes[count - 1], letters, count, goes_on);
    return found;
}

/* Cut a word into pieces, at most so many; one that cannot be is unknown as a whole. */
static int cut_word(const struct table_head *table, const char *word, uint32_t count, int32_t *ids,
                    int most) {
    int written = 0;
    for (uint32_t at = 0; at < count;) {
        const struct table_slot *piece =
            count > table->longest_word ? NULL : longest_piece(table, word + at, count - at, at > 0);
        if (!piece) {
            if (most) ids[0] = table->unknown;
            return most > 0;
        }
        if (written < most) ids[written++] = piece->id;
        at += piece->length;
    }
    return written;
}

static enum kind kind_of(uint8_t c) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') return SPACE;
    if (c < 32 || c == 127) return NOTHING;
    const int low = c | 32;
    return (low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') ? LETTER : MARK;
}

static char lower(const struct table_head *table, uint8_t c) {
    return (char)(table->lowercase && c >= 'A' && c <= 'Z' ? c | 32 : c);
}

int find_pieces(const struct table_head *table, const char *text, size_t length, int32_t *ids,
                int most) {
    char word[LONGEST_WORD];
    uint32_t count = 0; /* letters of the word, more than are kept of a long one */
    int written = 0;
    for (size_t i = 0; i <= length && written < most; i++) {
        const uint8_t c = i < length ? (uint8_t)text[i] : ' ';
        if (c > 127 || table->refused[c >> 5] >> (c & 31) & 1) return -1;
        const enum kind kind = kind_of(c);
        if (kind == NOTHING) continue;
        if (kind != LETTER && count) {
            written += cut_word(table, word, count, ids + written, most - written);
            count = 0;
        }
        if (kind == MARK) written += cut_word(table, text + i, 1, ids + written, most - written);
        if (kind == LETTER && count++ < LONGEST_WORD) word[count - 1] = lower(table, c);
    }
    return written;
}

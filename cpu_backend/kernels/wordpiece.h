/* WordPiece over plain text: ASCII, without the characters that an added token begins with.
 *
 * The pieces of a vocabulary lie in a file of the page cache, so that no connection builds them anew:
 *
 *      head | slots: hash table, open addressing | bytes of all pieces
 *
 * A piece that goes on a word is kept without its ##. Pieces with other characters are left out: they
 * cannot occur in plain text.
 */
#ifndef PAGEFORMER_WORDPIECE_H
#define PAGEFORMER_WORDPIECE_H

#include <stddef.h>
#include <stdint.h>

enum { MOST_SPECIAL = 4, LONGEST_WORD = 256, TABLE_MARK = 0x31505750 }; /* "PWP1" */

struct table_head {
    uint32_t mark;
    uint32_t slots;        /* a power of two; 0: this vocabulary is not for us */
    uint32_t bytes;        /* of the whole table */
    uint32_t longest;      /* characters of the longest piece */
    uint32_t longest_word; /* characters; a longer one is unknown */
    uint32_t lowercase;
    int32_t unknown;
    uint32_t before, after; /* how many special tokens stand around a text */
    int32_t special[2 * MOST_SPECIAL];
    uint32_t refused[4]; /* a bit for each ASCII character that a plain text does not have */
};

struct table_slot {
    uint32_t at;     /* of its bytes */
    uint16_t length; /* 0: empty */
    uint16_t goes_on;
    int32_t id;
};

/* Tell whether so many bytes are a table, as it was made here. */
int is_table(const struct table_head *table, size_t bytes);

/* Put a piece into a table that has room for it. */
void add_piece(struct table_head *table, uint32_t at, uint32_t length, int goes_on, int32_t id);

/* Write the ids of a text's pieces, `most` at the most; return how many, or -1: it is not plain. */
int find_pieces(const struct table_head *table, const char *text, size_t length, int32_t *ids,
                int most);

#endif

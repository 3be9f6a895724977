/* An encoder (BERT and its kin, or layers alone), ready to run, and a job for it. */
#ifndef PAGEFORMER_ENCODER_H
#define PAGEFORMER_ENCODER_H

#include "kernels.h"

struct linear {
    struct matrix *weight;
    float *bias;
    enum form form;
    const void *panels; /* of weight, unless the form is FLOAT32 */
};

struct norm {
    float *weight, *bias;
};

struct layer {
    struct linear query, key, value, output, up, down;
    struct norm attention_norm, feed_forward_norm;
};

enum { MOST_TABLES = 3 };

struct encoder {
    const struct variant *variant;
    int hidden, heads, intermediate, layer_count, activation, first_token;
    int norm_first;       /* pre-norm: norms stand before attention and feed-forward parts */
    int final_activation; /* once more, after `down` */
    int padding_id; /* or -1: positions count from 0 */
    int longest;    /* tokens of a sequence; 0, without tables: any number */
    enum form form; /* the narrowest that one of its products has */
    int edits;      /* its products and ends may be edited: post-norm layers alone */
    float eps;
    struct matrix *tables[MOST_TABLES]; /* word, position, token type; none: it takes rows */
    int table_count;
    struct norm embedding_norm;
    float *relative; /* or NULL: [heads, 2 longest - 1] */
    struct layer *layers;
};

/* The steps of a pass: the first, those of a layer, the last. QUANTIZE_* are there in INT8 only,
 * PREPARE_* where tasks may edit products. */
enum step {
    EMBED,
    PREPARE_INPUT,
    QUERY_KEY_VALUE,
    ATTEND,
    QUANTIZE_MIXED,
    PREPARE_MIXED,
    OUTPUT,
    NORM,
    PREPARE_NORMED,
    UP,
    QUANTIZE_INNER,
    PREPARE_INNER,
    DOWN,
    NORM_AGAIN,
    POOL,
    JOB_STEPS
};

struct job;

/* A flag that somebody else sets when computing is to stop; NULL: nobody does. */
extern volatile int *interrupt_flag;

enum progress { FINISHED, STOPPED, NO_MEMORY };

/* Begin a job. states: keep the last hidden state of every token, not one vector a sequence. */
struct job *job_begin(const struct encoder *encoder, int threads, int states);

/* Hand over the token ids of one more sequence (checked); 0 when memory is short. */
int job_add(struct job *job, const int32_t *ids, int count);

/* The same for an encoder that takes rows [count, hidden], which stay where they are to the end: each
 * call's follow those of the one before it. */
int job_add_rows(struct job *job, const float *rows, int count);

/* The same for all rows of a job at once, as tasks edit them (taken over). */
struct group_edits;
int job_add_edited(struct job *job, struct group_edits *edits, int rows);

/* Compute all that was added. STOPPED: the flag was set; call again when it is not. */
enum progress job_run(struct job *job);

/* The name of a step, and the seconds that all threads together spent on it. */
const char *job_spent(const struct job *job, enum step step, double *seconds);

/* Copy the answer: [sequences, hidden], or [tokens, hidden]. */
size_t job_rows(const struct job *job);
void job_copy(const struct job *job, float *to);

void job_end(struct job *job);

#endif

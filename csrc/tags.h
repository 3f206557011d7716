/* Time tags: what the tiers supply. */
#ifndef TAGS_H
#define TAGS_H

#include "qk_internal.h"

/* A run over T2 records; the decoder moves on n_read, n_tags, overflows and meaningless. */
struct t2_run {
    int64_t *time;
    uint8_t *ids;
    size_t capacity;
    const uint8_t *words;
    size_t n_words;
    uint64_t wrap;
    int family;
    uint64_t overflows;
    size_t n_read;
    size_t n_tags;
    uint64_t meaningless;
};

/* What a group of records gave: how many were decoded, tags, overflows counted. */
struct t2_step {
    size_t n_words, n_tags;
    uint64_t overflows;
};

/* One piece of the clock, the gate, and how far its clicks are blanked. */
struct gate_line {
    int64_t knot_tick;
    int64_t knot_slot;
    double knot_fraction;
    double slots_per_tick;
    double half_gate;
    double offset;
    double bins;
    int64_t dead_ticks;
};

enum { GATE_STEP = 256 };

/* Clicks under one piece of the clock. In: what the delays have beyond whole ticks. Out: bins of the histogram, slots,
 * whether the slot is not negative and the click inside the gate, whether no click came in the dead time before. */
struct gate_step {
    double part[GATE_STEP];
    int64_t bin[GATE_STEP];
    int64_t slot[GATE_STEP];
    uint8_t counts[GATE_STEP];
    uint8_t live[GATE_STEP];
    size_t n_ahead;
    size_t n_counts;
};

struct qk_tags {
    /* Decodes until the words end or the next record may not fit. */
    void (*t2)(struct t2_run *run);
    /* How many of the tags i = 1 to n - 1 are earlier than tag i - 1. */
    size_t (*backward)(const int64_t *ticks, size_t n);
    /* total[i] += scores[i]. */
    void (*add_scores)(int32_t *total, const int8_t *scores, size_t n);
    /* bytes[i] = table[bytes[i]]; returns the largest result. */
    uint8_t (*relabel)(uint8_t *bytes, size_t n, const uint8_t *table);
    /* Places n <= GATE_STEP clicks; before: the time of the click before them. n_ahead and n_counts: how many have a
     * slot that is not negative, and how many of these are inside the gate. */
    void (*place)(struct gate_step *step, const int64_t *times, size_t n, int64_t before, const struct gate_line *line);
};

extern const struct qk_tags qk_tags_portable;
#if QK_X86
extern const struct qk_tags qk_tags_x86_v3;
extern const struct qk_tags qk_tags_avx512;
#endif

static inline int64_t tags_load(const int64_t *from)
{
    int64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline double tags_load_double(const double *from)
{
    double value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void tags_store(int64_t *to, int64_t value) { memcpy(to, &value, sizeof value); }

#endif

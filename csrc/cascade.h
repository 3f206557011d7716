/* Cascade, all frames of a batch in step: the state of a frame. Rules: docs/notes/cascade.md. */
#ifndef CASCADE_H
#define CASCADE_H

#include "qk_internal.h"

#include "qk_cascade.h"
#include "qk_target.h"

enum {
    PASSES = 3,
    /* A row is cut into cells of 64 places: the key in the order of the list; ones where nodes begin; ones where odd
     * nodes begin; ones where the error bit is known, and beyond the end. The last three are public. Nodes that begin
     * with a cell are noted in its group alone. */
    KEY = 0,
    CUT = 1,
    ODD = 2,
    KNOWN = 3,
    CELL = 4,
    LINE_WORDS = 8,
    LANES = 64
};

/* What a frame does in a round. */
enum { IDLE, SEARCH, OPEN, HALVE };

/* 64 cells of a list, a bit each: parity of the key; all places known; a node begins with the cell, or later in it; an
 * odd node does. One cache line. */
struct group {
    uint64_t parity, known, first_cut, inner_cut, first_odd, inner_odd, unused[2];
};

/* What an entry asks for. BLOCK: the parity of a new block of the last list. HALF: of the first part of an odd node.
 * ADDRESS: for each bit that is set in `ask`, the parity of those places of a node whose distance from its begin has
 * that bit set; the others follow (`implied`). MASK: of a mask from lo to mid. */
enum { BLOCK, HALF, ADDRESS, MASK };

/* A question, or an odd node while its list is searched alone (cascade_nodes.inc.h): bits of its key and of what is not
 * known, one a place, or one for 64, 4,096, ... places while it is longer than 64; where it was cut in its cell. */
struct entry {
    int32_t lo, hi;
    union {
        struct {
            int32_t mid;
            uint16_t kind, list;
            uint32_t ask, implied;
        };
        struct {
            uint64_t key, open, cuts;
        };
    };
};

/* Public state of a frame, equal on both sides. */
struct frame {
    int32_t length, table, opened, current, asked, search, low, high;
    int32_t n_odd[PASSES], last[PASSES];
    int32_t block, blocks, cutting;
    int32_t wish, wish_count, wish_block;
    int32_t did;          /* the wish of the last round: blocks are asked for without entries */
    int32_t alone, limit; /* list whose odd nodes the entries are, or -1; length of short nodes */
    uint32_t mask_odd;
    double rate;
    uint64_t first_entry, n_entries;
};

struct view {
    const struct qk_cascade *b;
    struct frame *f;
    uint64_t *cells[PASSES];
    struct group *groups[PASSES];
    uint64_t *found;
    const int32_t *places; /* of each position, index in list 1 and bit of the frame */
    const int32_t *order;  /* index in list 1 to position */
    uint64_t found_at;
};

static inline size_t cascade_groups(const struct qk_cascade *b) { return (b->width + 63) >> 6; }

static inline struct frame *cascade_frame(const struct qk_cascade *b, size_t f)
{
    return (struct frame *)b->frames + f;
}

/* Words of a frame's rows: an odd number of cache lines, so that equal words of different frames share no set. */
static inline size_t cascade_stride(const struct qk_cascade *b)
{
    const size_t words = 2 * CELL * b->width + PASSES * LINE_WORDS * cascade_groups(b);
    return ((words + LINE_WORDS - 1) / LINE_WORDS | 1) * LINE_WORDS;
}

/* The same for the rows of the last list, which many frames never need: they lie behind those of all frames. */
static inline size_t cascade_last_stride(const struct qk_cascade *b)
{
    return ((CELL * b->width + LINE_WORDS - 1) / LINE_WORDS | 1) * LINE_WORDS;
}

static inline uint64_t *cascade_rows(const struct qk_cascade *b, size_t f)
{
    uint64_t *base = (uint64_t *)(void *)((unsigned char *)b->rows + (-(uintptr_t)b->rows & 63));
    return base + f * cascade_stride(b);
}

static inline struct view cascade_view(const struct qk_cascade *b, size_t number)
{
    struct view v = {.b = b, .f = cascade_frame(b, number), .found = b->found};
    uint64_t *rows = cascade_rows(b, number);
    const int32_t *table = b->orders + (size_t)v.f->table * 3 * b->frame_bits;
    for (int p = 0; p < PASSES; p++) {
        v.cells[p] = rows + (size_t)p * CELL * b->width;
        v.groups[p] = (struct group *)(void *)(rows + 2 * CELL * b->width) + (size_t)p * cascade_groups(b);
    }
    v.cells[PASSES - 1] = cascade_rows(b, b->n_frames) + number * cascade_last_stride(b);
    v.places = table;
    v.order = table + 2 * b->frame_bits;
    v.found_at = b->found_first + number * b->frame_bits;
    return v;
}

typedef int cascade_round_function(struct qk_cascade *b);
typedef void cascade_load_function(struct qk_cascade *b, const uint64_t *key, uint64_t start, uint64_t *scratch);

/* Takes the answers and, if `asking`, plans the next round, frame after frame. */
cascade_round_function cascade_round_portable;
cascade_load_function cascade_load_portable;
#if QK_X86
cascade_round_function cascade_round_x86_v3;
cascade_load_function cascade_load_x86_v3;
cascade_round_function cascade_round_avx512;
cascade_load_function cascade_load_avx512;
#endif

/* Decides what the frames do that are still cutting the first list into blocks (cascade_steering.c). */
void cascade_cut_first(struct qk_cascade *b);
void cascade_next_blocks(const struct qk_cascade *b, struct frame *f);

#endif

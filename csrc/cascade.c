/* Cascade: sizes, the state at the beginning, rounds. */
#include "cascade.h"

/* Tiers beyond the last one use that. */
static const struct variant {
    cascade_load_function *load;
    cascade_round_function *round;
} variants[] = {
    {cascade_load_portable, cascade_round_portable},
#if QK_X86
    {cascade_load_x86_v3, cascade_round_x86_v3},
    {cascade_load_avx512, cascade_round_avx512},
#endif
};

static const struct variant *chosen(void)
{
    const int tier = qk_isa(), last = (int)(sizeof variants / sizeof variants[0]) - 1;
    return &variants[tier < last ? tier : last];
}

size_t qk_cascade_row_words(const qk_cascade *b)
{
    return b->n_frames * (cascade_stride(b) + cascade_last_stride(b)) + LINE_WORDS;
}

size_t qk_cascade_frame_bytes(const qk_cascade *b) { return b->n_frames * sizeof(struct frame); }

size_t qk_cascade_entry_bytes(void) { return sizeof(struct entry); }

/* Length of the blocks asked for first: a power of two that holds as many errors as wanted or up to twice as many. */
static int32_t first_block(const qk_cascade *b, int32_t n)
{
    int32_t block = 1;
    while (block * b->hint < b->errors_1 && block < n) {
        block *= 2;
    }
    return block;
}

/* Nothing known but what lies beyond the end. */
static void clear_groups(const qk_cascade *b, size_t number)
{
    const struct view v = cascade_view(b, number);
    const int32_t cells = (v.f->length + 63) >> 6;
    for (int p = 0; p < PASSES; p++) {
        for (int32_t g = 0; g < (int32_t)cascade_groups(b); g++) {
            const int32_t here = cells - 64 * g;
            struct group clear = {.known = here <= 0 ? ~UINT64_C(0) : here < 64 ? ~UINT64_C(0) << here : 0};
            v.groups[p][g] = clear;
        }
    }
}

int qk_cascade_load(qk_cascade *b, const uint64_t *key, uint64_t start, uint64_t *scratch)
{
    if (b->n_masks > 16 || b->width != (b->frame_bits + 63) / 64 || b->last_bits > b->frame_bits || !b->last_bits) {
        return QK_BAD_SIZE;
    }
    for (size_t i = 0; i < b->n_frames; i++) {
        const int is_short = i + 1 == b->n_frames && b->last_bits != b->frame_bits;
        const int32_t n = (int32_t)(is_short ? b->last_bits : b->frame_bits);
        const int32_t block = first_block(b, n);
        struct frame *f = cascade_frame(b, i);
        memset(f, 0, sizeof *f);
        f->length = n;
        f->table = is_short && b->n_frames > 1;
        f->search = -1;
        f->block = block;
        f->blocks = (n + block - 1) / block;
        f->cutting = 1;
        f->wish = OPEN;
        f->wish_block = block;
        f->alone = -1;
        clear_groups(b, i);
    }
    b->n_cutting = b->n_frames;
    b->cycle = 0;
    b->asking = 0;
    b->answers = NULL;
    b->n_entries = 0;
    chosen()->load(b, key, start, scratch);
    return QK_OK;
}

/* Begins a round. The answers are taken before if all frames must have them for what is asked next, or nothing is. */
static int begin(qk_cascade *b)
{
    b->turn ^= 1;
    b->n_asked = b->n_entries;
    b->n_out = b->n_entries = b->n_left = b->cursor = b->n_told = b->answer_at = 0;
    const int ends = b->cycle >= b->max_rounds;
    if (b->answers && (ends || b->n_cutting > 0)) {
        chosen()->round(b);
        b->answers = NULL;
        b->cursor = 0;
    }
    if (!ends && b->cycle > 0 && b->n_cutting > 0) {
        cascade_cut_first(b);
    }
    return !ends;
}

int qk_cascade_ask(qk_cascade *b)
{
    if (!b->asking && !begin(b)) {
        return QK_OK;
    }
    b->asking = 1;
    const int status = chosen()->round(b);
    if (status == QK_OK) {
        b->asking = 0;
        b->answers = NULL;
        b->cycle++;
    }
    return status;
}

int qk_cascade_suspects(const qk_cascade *b, uint8_t *out)
{
    for (size_t i = 0; i < b->n_frames; i++) {
        const struct frame *f = cascade_frame(b, i);
        out[i] = !(f->asked && !f->n_odd[0] && !f->n_odd[1] && !f->n_odd[2] && !f->mask_odd && f->search < 0);
    }
    return QK_OK;
}

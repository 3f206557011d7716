/* What a frame asks for in a round: blocks, masks, odd nodes. */

/* What the groups of the last list say of its cells. */
QK_INLINE void group_last(struct view *v)
{
    const int32_t n = v->f->length;
    for (int32_t i = 0; i < n; i += LANES) {
        const uint64_t *cell = cell_of(v->cells[PASSES - 1], i);
        struct group *c = group_of(v, PASSES - 1, i);
        c->parity |= (uint64_t)parity_of(cell[KEY]) << (i >> 6 & 63);
        c->known |= (uint64_t)(cell[KNOWN] == ALL) << (i >> 6 & 63);
    }
}

/* The rows of the last list, whose order is that of (position mod 64, position). */
static void TIER(build_last)(struct view *v)
{
    const size_t width = v->b->width, n = (size_t)v->f->length, rows = n / (LANES * LANES);
    uint64_t *to = v->cells[PASSES - 1];
    const uint64_t *from = v->cells[0];
    if (n % (LANES * LANES)) {
        memset(to, 0, CELL * width * sizeof *to);
        for (size_t i = 0; i < n; i++) {
            const uint64_t *cell = from + (i >> 6) * CELL;
            const size_t at = (size_t)strided(v->f->length, (int32_t)i);
            to[(at >> 6) * CELL + KEY] |= (cell[KEY] >> (i & 63) & 1) << (at & 63);
            to[(at >> 6) * CELL + KNOWN] |= (cell[KNOWN] >> (i & 63) & 1) << (at & 63);
        }
        if (n & 63) {
            to[(n >> 6) * CELL + KNOWN] |= ALL << (n & 63);
        }
        group_last(v);
        return;
    }
    uint64_t key[LANES], known[LANES], y[LANES]; /* each cell, and no other, is written once */
    for (size_t g = 0; g < rows; g++) {
        for (size_t k = 0; k < LANES; k++) {
            key[k] = from[(g * LANES + k) * CELL + KEY];
            known[k] = from[(g * LANES + k) * CELL + KNOWN];
        }
        transpose(key, y);
        transpose(known, y);
        for (size_t k = 0; k < LANES; k++) {
            const uint64_t cell[CELL] = {[KEY] = key[k], [KNOWN] = known[k]};
            memcpy(to + (k * rows + g) * CELL, cell, sizeof cell);
        }
    }
    group_last(v);
    qk_wipe(key, sizeof key);
    qk_wipe(y, sizeof y);
}

/* Parities of all masks. */
static void TIER(open_masks)(struct view *v, struct sink *s)
{
    enum { MOST = 16 };
    const struct qk_cascade *b = v->b;
    const int32_t n = v->f->length;
    const size_t cells = (size_t)(n + 63) >> 6;
    uint64_t key[LANES], sums[MOST] = {0};
    for (size_t w = 0; w < cells; w += LANES) {
        const size_t count = cells - w < LANES ? cells - w : LANES;
        for (size_t k = 0; k < count; k++) {
            key[k] = v->cells[0][(w + k) * CELL + KEY];
        }
        for (size_t q = 0; q < b->n_masks; q++) {
            const uint64_t *mask = b->masks + q * b->width + w;
            for (size_t k = 0; k < count; k++) {
                sums[q] ^= key[k] & mask[k];
            }
        }
    }
    for (int q = 0; q < (int)b->n_masks; q++) {
        if (masked(v, KNOWN, q, 0, n)) {
            put_entry(s, MASK, q, 0, n, n);
            put_bits(s, parity_of(sums[q]), 1);
        }
    }
    qk_wipe(key, sizeof key);
    qk_wipe(sums, sizeof sums);
}

/* Where the block ends that begins at lo: `count` blocks of 2 * block, then blocks of `block`. */
QK_INLINE int32_t block_end(const struct frame *f, int32_t lo, int32_t count, int32_t block)
{
    const int32_t length = lo < 2 * (int64_t)count * block ? 2 * block : block;
    return f->length - lo > length ? lo + length : f->length;
}

/* Cuts the next list into blocks. Those of the first two are asked for without entries; the last brings the masks. */
static void TIER(open_pass)(struct view *v, struct sink *s)
{
    struct frame *f = v->f;
    const int p = f->opened++;
    if (p < PASSES - 1) {
        f->current = p;
    } else {
        TIER(build_last)(v);
    }
    for (int32_t lo = 0, hi; lo < f->length; lo = hi) {
        hi = block_end(f, lo, f->wish_count, f->wish_block);
        set_cut(v, p, lo);
        const int follows = p > 0 && hi == f->length, asks = !follows && (!p || any_unknown(v->cells[p], lo, hi));
        if (follows) {
            f->last[p] = lo;
            set_odd(v, p, lo, (unsigned)f->n_odd[0] & 1);
        }
        if (p == PASSES - 1 && (asks || follows)) {
            put_entry(s, BLOCK, p, lo, asks ? hi : lo, hi);
        }
        if (asks) {
            put_bits(s, range_parity(v, p, lo, hi), 1);
        }
    }
    if (p == PASSES - 1) {
        TIER(open_masks)(v, s);
    }
}

/* Where to stop, exclusive, when `count` blocks are halved. */
QK_INLINE int32_t halving_end(const struct frame *f, int32_t count, int32_t block)
{
    const int32_t end = f->length - block / 2;
    return (int64_t)count * block < end ? count * block : end;
}

QK_INLINE void halve_blocks(struct view *v, struct sink *s)
{
    const int32_t block = v->f->wish_block, end = halving_end(v->f, v->f->wish_count, block);
    for (int32_t lo = 0; lo < end; lo += block) {
        put_bits(s, range_parity(v, 0, lo, lo + block / 2), 1);
    }
}

QK_INLINE int is_clean(const struct frame *f)
{
    return f->asked && !all_odd(f) && !f->mask_odd && f->search < 0;
}

/* Chooses what a frame does. */
QK_INLINE void choose(const struct qk_cascade *b, struct frame *f)
{
    if (f->wish == IDLE && !is_clean(f)) {
        f->wish = SEARCH;
        if (f->opened > 1 && 8 * f->n_odd[f->current] < f->n_odd[1 ^ f->current]) {
            f->current ^= 1;
        }
        if (f->opened < PASSES && (!all_odd(f) || (f->opened == PASSES - 1 && b->cycle >= b->late_from))) {
            cascade_next_blocks(b, f);
        }
    }
}

/* For how many entries there must be room, and for how many parities beside theirs. */
QK_INLINE size_t room_for(const struct qk_cascade *b, const struct frame *f)
{
    return (size_t)(all_odd(f) + b->blocks_3) + b->n_masks + 3;
}

QK_INLINE size_t blocks_for(const struct frame *f)
{
    if (f->wish == OPEN) {
        return (size_t)f->length / (size_t)f->wish_block + 2;
    }
    return f->wish == HALVE ? (size_t)f->wish_count : 0;
}

QK_INLINE void plan(struct view *v, struct sink *s, const struct entry *kept)
{
    struct frame *f = v->f;
    const int alone = f->wish == SEARCH && f->opened < PASSES && all_odd(f);
    size_t n_kept = f->n_entries;
    f->first_entry = s->n;
    f->n_entries = 0;
    f->did = f->wish;
    if (n_kept && !(alone && f->alone == f->current)) {
        TIER(put_back)(v, kept, n_kept);
        n_kept = 0;
    }
    f->alone = alone ? f->current : -1;
    if (alone) {
        TIER(search_alone)(v, s, n_kept ? kept : NULL, n_kept);
    } else if (f->wish == HALVE) {
        halve_blocks(v, s);
    } else if (all_odd(f)) {
        TIER(search_list)(v, s, f->current);
        TIER(search_list)(v, s, PASSES - 1);
    } else if (f->wish == SEARCH) {
        TIER(search_mask)(v, s);
    }
    if (f->wish == OPEN) {
        TIER(open_pass)(v, s);
    }
    f->n_entries = s->n - f->first_entry;
    f->wish = IDLE;
}

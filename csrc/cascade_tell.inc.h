/* What the answers mean. First everything is noted that they say for certain, then errors are found. */

/* The odd node at lo has this parity up to mid. */
QK_INLINE void learn_half(struct view *v, int p, int32_t lo, int32_t mid, unsigned odd)
{
    set_cut(v, p, mid);
    if (!odd) {
        set_odd(v, p, lo, 0);
        set_odd(v, p, mid, 1);
    }
}

/* The node at lo has this parity up to mid. */
QK_INLINE void learn_split(struct view *v, int p, int32_t lo, int32_t mid, unsigned odd)
{
    const unsigned rest = is_odd(v, p, lo) ^ odd;
    set_cut(v, p, mid);
    turn_odd(v, p, lo, rest);
    turn_odd(v, p, mid, rest);
    v->f->n_odd[p] += 2 * (int)(odd & rest);
}

/* A new block. */
QK_INLINE void learn_block(struct view *v, int p, int32_t lo, unsigned odd)
{
    turn_odd(v, p, lo, odd);
    v->f->n_odd[p] += (int)odd;
    if (p > 0) {
        set_odd(v, p, v->f->last[p], is_odd(v, p, v->f->last[p]) ^ odd);
    }
}

/* Bits asked for, in rising order, together with the implied ones: the address of the error if it is the only one. */
QK_INLINE void learn_address(struct view *v, struct source *s, struct entry *e)
{
    uint32_t address = e->implied;
    for (uint32_t ask = e->ask; ask; ask &= ask - 1) {
        address |= (uint32_t)take(s) << lowest(ask);
    }
    e->implied = address;
    e->mid = e->lo;
    if (e->hi - e->lo > 1) {
        const int32_t half = half_of(e->hi - e->lo), mid = e->lo + half;
        set_cut(v, e->list, mid);
        if (address & (uint32_t)half) {
            set_odd(v, e->list, e->lo, 0);
            set_odd(v, e->list, mid, 1);
            e->mid = mid;
        }
    }
}

QK_INLINE void learn_mask(struct view *v, const struct entry *e, unsigned odd)
{
    struct frame *f = v->f;
    if (!f->asked) {
        f->mask_odd |= odd << e->list;
    } else if (e->lo == f->low && e->mid < f->high) { /* else an even quarter */
        if (odd) {
            f->high = e->mid;
        } else {
            f->low = e->mid;
        }
    }
}

/* An error at a position: every interval and mask that holds it changes its parity. In list `own`, unless that is
 * negative, the node begins at `begin`. */
QK_INLINE void found(struct view *v, int32_t position, int known, int own, int32_t begin)
{
    struct frame *f = v->f;
    const uint64_t at = v->found_at + (uint64_t)v->places[2 * position + 1];
    v->found[at >> 6] ^= UINT64_C(1) << (at & 63);
    for (int p = 0; p < 2 || p < f->opened; p++) {
        const int32_t i = place_of(v, p, position);
        change_place(v, p, i, 1, (unsigned)known);
        if (p < f->opened) {
            const int32_t lo = p == own ? begin : node_begin(v, p, i);
            change_odd(v, p, lo);
        }
    }
    if (f->asked) {
        const uint32_t masks = v->b->mask_of[position];
        f->mask_odd ^= masks;
        if (f->search >= 0 && masks >> f->search & 1 && f->low <= position && position < f->high) {
            f->search = -1;
        }
    }
}

QK_INLINE void set_known(struct view *v, int32_t position)
{
    for (int p = 0; p < 2 || p < v->f->opened; p++) {
        change_place(v, p, place_of(v, p, position), 0, 1);
    }
}

/* A node of one place: its error bit is known now. */
QK_INLINE void settle_single(struct view *v, int p, int32_t lo)
{
    const int32_t position = position_of(v, p, lo);
    if (is_odd(v, p, lo)) {
        found(v, position, 1, p, lo);
    } else {
        set_known(v, position);
    }
}

QK_INLINE void settle_address(struct view *v, const struct entry *e)
{
    const int p = e->list;
    if (e->hi - e->lo > 1) {
        const int32_t half = half_of(e->hi - e->lo);
        if (half == 1) {
            settle_single(v, p, e->lo);
        }
        if (e->hi - e->lo - half == 1) {
            settle_single(v, p, e->lo + half);
        }
    }
    const int32_t i = e->lo + (int32_t)e->implied;
    if (i >= e->hi || cell_of(v->cells[p], i)[KNOWN] & bit_of(i)) {
        return; /* more errors than one: the half that is odd is searched further */
    }
    if (is_odd(v, p, e->mid)) {
        found(v, position_of(v, p, i), 0, p, e->mid);
    }
}

QK_INLINE void settle(struct view *v, const struct entry *e)
{
    if (e->kind == ADDRESS) {
        settle_address(v, e);
    } else if (e->kind != MASK) {
        if (e->mid - e->lo == 1) {
            settle_single(v, e->list, e->lo);
        }
        if (e->hi - e->mid == 1) {
            settle_single(v, e->list, e->mid);
        }
    }
}

/* Parities of the blocks that were asked for without entries. */
static void TIER(tell_opened)(struct view *v, struct source *s)
{
    const struct frame *f = v->f;
    const int p = f->opened - 1;
    const int32_t n = f->length, first_last = p > 0 ? f->last[p] : n;
    for (int32_t lo = 0; lo < first_last; lo = block_end(f, lo, f->wish_count, f->wish_block)) {
        if (!p || any_unknown(v->cells[p], lo, block_end(f, lo, f->wish_count, f->wish_block))) {
            learn_block(v, p, lo, take(s));
        }
    }
    for (int32_t lo = 0, hi; lo < n; lo = hi) {
        hi = block_end(f, lo, f->wish_count, f->wish_block);
        if (hi - lo == 1) {
            settle_single(v, p, lo);
        }
    }
}

/* The same for halves of blocks. */
static void TIER(tell_halved)(struct view *v, struct source *s)
{
    const int32_t n = v->f->length, block = v->f->wish_block, half = block / 2;
    const int32_t end = halving_end(v->f, v->f->wish_count, block);
    for (int32_t lo = 0; lo < end; lo += block) {
        learn_split(v, 0, lo, lo + half, take(s));
    }
    for (int32_t lo = 0; lo < end; lo += block) {
        if (half == 1) {
            settle_single(v, 0, lo);
        }
        if (half == 1 || n - lo - half == 1) {
            settle_single(v, 0, lo + half);
        }
    }
}

static void TIER(tell_entries)(struct view *v, struct source *s, struct entry *first, struct entry *end)
{
    for (struct entry *e = first; e < end; e++) {
        if (e->kind == ADDRESS) {
            learn_address(v, s, e);
        } else if (e->mid > e->lo) {
            const unsigned odd = take(s);
            if (e->kind == HALF) {
                learn_half(v, e->list, e->lo, e->mid, odd);
            } else if (e->kind == BLOCK) {
                learn_block(v, e->list, e->lo, odd);
            } else {
                learn_mask(v, e, odd);
            }
        }
    }
    struct frame *f = v->f;
    f->asked = f->opened == PASSES;
    for (const struct entry *e = first; e < end; e++) {
        settle(v, e);
    }
    if (f->search >= 0 && f->high - f->low == 1) {
        found(v, f->low, 1, -1, 0);
        f->search = -1;
    }
}

/* Takes the answers to a frame's questions. */
QK_INLINE void tell(struct view *v, struct source *s, struct entry *e)
{
    struct frame *f = v->f;
    const size_t n = f->n_entries;
    f->n_entries = 0;
    if (f->alone >= 0) {
        TIER(tell_alone)(v, s, e, n);
    } else if (f->did == OPEN && f->opened < PASSES) {
        TIER(tell_opened)(v, s);
    } else if (f->did == HALVE) {
        TIER(tell_halved)(v, s);
    } else if (n) {
        TIER(tell_entries)(v, s, e, e + n);
    }
    f->did = IDLE;
}

/* What the answers mean. First everything is noted that they say for certain, then errors are found. */

/* Reads the answers one after the other. */
struct source {
    const uint64_t *words;
    size_t at;
};

QK_INLINE unsigned take(struct source *s)
{
    const unsigned bit = (unsigned)(qk_load64(s->words + (s->at >> 6)) >> (s->at & 63)) & 1;
    s->at++;
    return bit;
}

/* Brings to the cache what settling an address needs: first what the tables say about the place, then its cells. */
QK_INLINE void fetch_tables(const struct view *v, const struct entry *e)
{
    if (e->kind == ADDRESS) {
        const int32_t i = e->lo + (int32_t)e->implied;
        if (i < e->hi) {
            prefetch(v->places + 2 * position_of(v, e->list, i));
        }
    }
}

QK_INLINE void fetch_cells(const struct view *v, const struct entry *e)
{
    if (e->kind == ADDRESS) {
        const int32_t i = e->lo + (int32_t)e->implied;
        if (i < e->hi) {
            const int32_t position = position_of(v, e->list, i);
            const uint64_t at = v->found_at + (uint64_t)v->places[2 * position + 1];
            prefetch(cell_of(v->cells[e->list != 1], e->list == 1 ? position : v->places[2 * position]));
            prefetch(v->found + (at >> 6));
        }
    }
}

/* The odd node at lo has this parity up to mid. */
QK_INLINE void learn_half(struct view *v, int p, int32_t lo, int32_t mid, unsigned odd)
{
    uint64_t *cell = cell_of(v->cells[p], mid);
    cell[CUT] |= bit_of(mid);
    if ((lo ^ mid) < 64) {
        cell[ODD] ^= (bit_of(lo) | bit_of(mid)) & ((uint64_t)odd - 1);
    } else if (!odd) {
        set_odd(v, p, lo, 0);
        set_odd(v, p, mid, 1);
    }
}

/* The node at lo has this parity up to mid. */
QK_INLINE void learn_split(struct view *v, int p, int32_t lo, int32_t mid, unsigned odd)
{
    const unsigned before = is_odd(v, p, lo);
    cell_of(v->cells[p], mid)[CUT] |= bit_of(mid);
    if (before != odd) {
        set_odd(v, p, lo, odd);
        set_odd(v, p, mid, 1);
    }
}

QK_INLINE void learn_block(struct view *v, int p, int32_t lo, unsigned odd)
{
    if (odd) {
        set_odd(v, p, lo, 1);
        if (p > 0) {
            set_odd(v, p, v->f->last[p], 1 ^ is_odd(v, p, v->f->last[p]));
        }
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
        cell_of(v->cells[e->list], mid)[CUT] |= bit_of(mid);
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
    const struct qk_cascade *b = v->b;
    struct frame *f = v->f;
    const uint64_t at = v->found_at + (uint64_t)v->places[2 * position + 1];
    v->found[at >> 6] ^= UINT64_C(1) << (at & 63);
    for (int p = 0; p < 2 || p < f->opened; p++) {
        const int32_t i = place_of(v, p, position);
        uint64_t *cell = cell_of(v->cells[p], i);
        cell[KEY] ^= b->corrects ? bit_of(i) : 0;
        cell[KNOWN] |= known ? bit_of(i) : 0;
        if (p < f->opened) {
            const int32_t lo = p == own ? begin : node_begin(v, p, i);
            set_odd(v, p, lo, 1 ^ is_odd(v, p, lo));
        }
    }
    if (f->asked) {
        const uint32_t masks = b->mask_of[position];
        f->mask_odd ^= masks;
        if (f->search >= 0 && masks >> f->search & 1 && f->low <= position && position < f->high) {
            f->search = -1;
        }
    }
}

QK_INLINE void set_known(struct view *v, int32_t position)
{
    for (int p = 0; p < 2 || p < v->f->opened; p++) {
        const int32_t i = place_of(v, p, position);
        cell_of(v->cells[p], i)[KNOWN] |= bit_of(i);
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

static void TIER(tell_frame)(struct view *v, struct source *s, struct entry *e, struct entry *end)
{
    struct frame *f = v->f;
    enum { NEAR = 6, FAR = 14, SOON = 24 };
    struct entry *const first = e;
    int settles = 0;
    for (; e < end; e++) {
        if (end - e > SOON) {
            prefetch(cell_of(v->cells[e[SOON].kind == MASK ? 0 : e[SOON].list], e[SOON].lo));
        }
        if (e->kind == HALF) {
            learn_half(v, e->list, e->lo, e->mid, take(s));
            settles |= e->hi - e->mid == 1;
            continue;
        }
        settles = 1;
        if (e->kind == SPLIT) {
            learn_split(v, e->list, e->lo, e->mid, take(s));
        } else if (e->kind == ADDRESS) {
            learn_address(v, s, e);
        } else if (e->kind == BLOCK) {
            if (e->mid > e->lo) {
                learn_block(v, e->list, e->lo, take(s));
            }
        } else if (e->mid > e->lo) {
            learn_mask(v, e, take(s));
        }
    }
    f->asked = f->opened == PASSES;
    const ptrdiff_t n = settles ? end - first : -FAR;
    for (ptrdiff_t i = -FAR; i < n; i++) {
        if (i + FAR < n) {
            fetch_tables(v, first + i + FAR);
        }
        if (i + NEAR >= 0 && i + NEAR < n) {
            fetch_cells(v, first + i + NEAR);
        }
        if (i >= 0) {
            settle(v, first + i);
        }
    }
    if (f->search >= 0 && f->high - f->low == 1) {
        found(v, f->low, 1, -1, 0);
        f->search = -1;
    }
}

/* What the answers mean for nodes that are searched alone. */

enum { MOST_SETTLED = 64 };

/* A place about which something is known now. */
struct settled {
    int32_t at, other;
    uint64_t cuts;
    uint32_t error, known;
};

struct settling {
    size_t n;
    struct settled at[MOST_SETTLED];
};

QK_INLINE void settle_place(const struct view *v, int p, struct settling *t, int32_t at, uint64_t cuts, unsigned error,
                            unsigned known)
{
    prefetch(cell_of(v->cells[p], at));
    prefetch(p ? (const void *)(v->order + at) : v->places + 2 * at);
    const struct settled x = {.at = at, .cuts = cuts, .error = error, .known = known};
    t->at[t->n++] = x;
}

/* Both lists learn of the places. */
static void TIER(settle_all)(struct view *v, int p, struct settling *t)
{
    const int q = 1 ^ p;
    int32_t position[MOST_SETTLED];
    for (size_t i = 0; i < t->n; i++) {
        struct settled *x = t->at + i;
        position[i] = position_of(v, p, x->at);
        x->other = place_of(v, q, position[i]);
        prefetch(cell_of(v->cells[q], x->other));
        prefetch(v->found + ((v->found_at + (uint64_t)v->places[2 * position[i] + 1]) >> 6));
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct settled *x = t->at + i;
        const uint64_t at = v->found_at + (uint64_t)v->places[2 * position[i] + 1];
        v->found[at >> 6] ^= (uint64_t)x->error << (at & 63);
        cell_of(v->cells[p], x->at)[CUT] |= x->cuts;
        group_of(v, p, x->at)->inner_cut |= (uint64_t)(x->cuts != 0) << (x->at >> 6 & 63);
        change_place(v, p, x->at, x->error, x->known);
        change_place(v, q, x->other, x->error, x->known);
        if (x->error && v->f->opened > q) {
            change_odd(v, q, node_begin(v, q, x->other));
        }
    }
    t->n = 0;
}

/* Takes the half that is odd. Returns whether the search goes on; what is settled by the way is noted. */
QK_INLINE int told_half(struct view *v, struct settling *t, int p, struct entry *e, unsigned odd)
{
    const int unit = unit_of(e->hi - e->lo), half = half_units(e, unit);
    const int32_t rest = e->hi - e->lo - (half << unit);
    halve_node(v, p, e, unit, half, odd);
    if (rest == 1) {
        settle_place(v, p, t, odd ? e->hi : e->lo, odd ? 0 : e->cuts, odd ^ 1, 1);
        return (int)odd;
    }
    return 1;
}

/* Whether a place is not known, that was in a node of m places when its address was asked for. */
QK_INLINE unsigned is_open(const struct view *v, int p, const struct entry *e, int32_t lo, int32_t m, uint32_t address)
{
    const int32_t at = lo + (int32_t)address;
    return (unsigned)(m > 64 ? ~cell_of(v->cells[p], at)[KNOWN] >> (at & 63) : e->open >> address) & 1;
}

/* The same with the address of the error, if it is the only one. */
QK_INLINE int told_address(struct view *v, struct settling *t, int p, struct entry *e, struct source *s)
{
    const int32_t m = e->hi - e->lo, lo = e->lo;
    uint32_t address = (uint32_t)(e->key >> 32), ask = (uint32_t)e->key;
    for (; ask; ask &= ask - 1) {
        address |= (uint32_t)take(s) << lowest(ask);
    }
    if (m > 1) {
        const int32_t half = half_of(m), mid = lo + half, hi = e->hi;
        const int32_t other = -(int32_t)(address >> highest((uint64_t)half) & 1);
        if (m > 64) {
            set_cut(v, p, mid);
        } else {
            e->cuts |= bit_of(mid);
        }
        e->lo = lo + (half & other);
        e->hi = mid + ((hi - mid) & other);
        if (m - (e->hi - e->lo) == 1) {
            settle_place(v, p, t, lo + (half & ~other), 0, 0, 1);
        }
    }
    const int known = m > 1 && e->hi - e->lo == 1;
    const int32_t at = known ? e->lo : lo + (int32_t)address;
    if (!known && (at >= e->hi || !is_open(v, p, e, lo, m, address))) {
        e->open = 0; /* more errors than one: the half that is odd is searched further */
        return 1;
    }
    settle_place(v, p, t, at, e->cuts, 1, (unsigned)known);
    return 0;
}

/* Takes the answers; nodes that are still odd stay, at the front. */
static void TIER(tell_alone)(struct view *v, struct source *s, struct entry *e, size_t n)
{
    struct frame *f = v->f;
    const int p = f->alone;
    const int32_t limit = f->limit;
    struct settling settling;
    settling.n = 0;
    struct entry *const first = e, *kept = e;
    struct source from = *s; /* a copy stays in registers */
    for (const struct entry *end = e + n; e < end;) {
        if (end - e >= 8 && tell_eight(&from, kept, e, limit)) {
            kept += 8;
            e += 8;
            continue;
        }
        struct entry x = *e++;
        const int goes_on = x.hi - x.lo > limit ? told_half(v, &settling, p, &x, take(&from))
                                                : told_address(v, &settling, p, &x, &from);
        f->n_odd[p] -= !goes_on;
        *kept = x;
        kept += goes_on;
        if (settling.n > MOST_SETTLED - 2) {
            TIER(settle_all)(v, p, &settling);
        }
    }
    TIER(settle_all)(v, p, &settling);
    f->n_entries = (size_t)(kept - first);
    *s = from;
}

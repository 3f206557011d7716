/* What comes next: entries of a round, the parities of this party's key that they ask for. */

/* Where entries and parities go. */
struct sink {
    struct entry *entries;
    size_t n;
    uint64_t *out;
    uint64_t word;
    size_t bits;
};

QK_INLINE void put_bits(struct sink *s, uint64_t bits, int count)
{
    const int at = (int)(s->bits & 63);
    s->word |= bits << at;
    s->bits += (size_t)count;
    if (at + count >= 64) {
        s->out[(s->bits >> 6) - 1] = s->word;
        s->word = at ? bits >> (64 - at) : 0;
    }
}

QK_INLINE struct entry *put_entry(struct sink *s, int kind, int p, int32_t lo, int32_t mid, int32_t hi)
{
    struct entry *e = s->entries + s->n++;
    e->lo = lo;
    e->mid = mid;
    e->hi = hi;
    e->kind = (uint16_t)kind;
    e->list = (uint16_t)p;
    return e;
}

/* Where answers come from. */
struct source {
    const uint64_t *words;
    size_t at;
};

/* Up to 64 of them that are there. */
QK_INLINE uint64_t take_bits(struct source *s, int count)
{
    const int at = (int)(s->at & 63);
    uint64_t x = qk_load64(s->words + (s->at >> 6)) >> at;
    if (at + count > 64) {
        x |= qk_load64(s->words + (s->at >> 6) + 1) << (64 - at);
    }
    s->at += (size_t)count;
    return x & ALL >> (64 - count);
}

QK_INLINE unsigned take(struct source *s)
{
    const unsigned bit = (unsigned)(qk_load64(s->words + (s->at >> 6)) >> (s->at & 63)) & 1;
    s->at++;
    return bit;
}

static const uint64_t address_bits[6] = {
    UINT64_C(0xaaaaaaaaaaaaaaaa), UINT64_C(0xcccccccccccccccc), UINT64_C(0xf0f0f0f0f0f0f0f0),
    UINT64_C(0xff00ff00ff00ff00), UINT64_C(0xffff0000ffff0000), UINT64_C(0xffffffff00000000),
};

/* Which bits of the address of a node's error must be asked for, which follow from the known places, and the sum of the
 * addresses of the key's ones. */
struct address {
    uint32_t with, without, sum;
};

/* Adds 64 places of a node, or the last ones, of which `every` are there. */
QK_INLINE void add_places(struct address *a, int32_t at, uint64_t key, uint64_t open, uint64_t every, int low_bits)
{
    for (int b = 0; b < low_bits; b++) {
        a->with |= (uint32_t)((open & address_bits[b]) != 0) << b;
        a->without |= (uint32_t)((open & every & ~address_bits[b]) != 0) << b;
        a->sum ^= parity_of(key & address_bits[b]) << b;
    }
    if (open) {
        a->with |= (uint32_t)at;
        a->without |= ~(uint32_t)at & ~(uint32_t)63;
    }
    a->sum ^= parity_of(key) ? (uint32_t)at : 0;
}

QK_INLINE int bits_of(int32_t length) { return length > 1 ? highest((uint64_t)(length - 1)) + 1 : 0; }

QK_INLINE struct address address_of(const struct view *v, int p, int32_t lo, int32_t hi)
{
    const int32_t m = hi - lo;
    const int low_bits = m > 32 ? 6 : bits_of(m);
    struct address a = {0, 0, 0};
    for (int32_t at = 0; at < m; at += 64) {
        const int32_t length = m - at < 64 ? m - at : 64;
        const uint64_t open = ~window(v->cells[p], KNOWN, lo + at, length) & ALL >> (64 - length);
        add_places(&a, at, window(v->cells[p], KEY, lo + at, length), open, ALL >> (64 - length), low_bits);
    }
    return a;
}

/* Puts the bits to ask for. */
QK_INLINE void put_address(struct sink *s, uint32_t sum, uint32_t ask)
{
    if (!(ask & (ask + 1))) {
        put_bits(s, sum & ask, ones(ask));
        return;
    }
    for (; ask; ask &= ask - 1) {
        put_bits(s, sum >> lowest(ask) & 1, 1);
    }
}

QK_INLINE void ask_address(struct view *v, struct sink *s, int p, int32_t lo, int32_t hi)
{
    const struct address a = address_of(v, p, lo, hi);
    struct entry *e = put_entry(s, ADDRESS, p, lo, lo, hi);
    e->ask = a.with & a.without & (((uint32_t)1 << bits_of(hi - lo)) - 1);
    e->implied = a.with & ~a.without;
    put_address(s, a.sum, e->ask);
}

/* One step of the search of an odd node: while one half is known the other follows. */
QK_INLINE void search_node(struct view *v, struct sink *s, int p, int32_t lo, int32_t hi, int32_t limit)
{
    const uint64_t *cells = v->cells[p];
    while (hi - lo > limit) {
        const int32_t mid = lo + half_of(hi - lo);
        const int left = any_unknown(cells, lo, mid);
        if (left && any_unknown(cells, mid, hi)) {
            put_entry(s, HALF, p, lo, mid, hi);
            put_bits(s, range_parity(v, p, lo, mid), 1);
            return;
        }
        set_cut(v, p, mid);
        if (left) {
            hi = mid;
        } else {
            set_odd(v, p, lo, 0);
            set_odd(v, p, mid, 1);
            lo = mid;
        }
    }
    ask_address(v, s, p, lo, hi);
}

QK_INLINE int32_t all_odd(const struct frame *f) { return f->n_odd[0] + f->n_odd[1] + f->n_odd[2]; }

/* The length up to which a node is short: it can be taken for granted that it holds one error only. */
QK_INLINE int32_t short_nodes(const struct view *v, int p)
{
    const struct qk_cascade *b = v->b;
    const struct frame *f = v->f;
    const double one = (f->opened == 1 ? b->short_1 : b->short_2) / f->rate;
    const double all = f->opened == 1 ? 0.0 : b->short_all * f->length / (f->n_odd[p] * sqrt(f->n_odd[p]));
    const double most = one > all ? one : all;
    const double limit = p == PASSES - 1 && all_odd(f) > b->busy ? b->max_short_busy : b->max_short;
    return most < 2.0 ? 2 : (int32_t)(most > limit ? limit : most);
}

/* The next step in every odd node of a list, a question for each. */
static void TIER(search_list)(struct view *v, struct sink *s, int p)
{
    if (!v->f->n_odd[p]) {
        return;
    }
    const int32_t limit = short_nodes(v, p);
    int32_t next = 0;
    for (int32_t g = 0; g < (int32_t)cascade_groups(v->b); g++) {
        const struct group *c = v->groups[p] + g;
        for (uint64_t cells = c->first_odd | c->inner_odd; cells; cells &= cells - 1) {
            const int32_t at = (g << 6 | lowest(cells)) << 6;
            for (uint64_t odd = odd_in(v, p, at); odd; odd &= odd - 1) {
                const int32_t lo = at + lowest(odd);
                if (lo >= next) { /* else the rest of a node that was narrowed just now */
                    next = node_end(v, p, lo);
                    search_node(v, s, p, lo, next, limit);
                }
            }
        }
    }
}

/* Parity, or whether a place is not known, of a mask from lo to hi > lo. */
QK_INLINE uint64_t masked(const struct view *v, int row, int q, int32_t lo, int32_t hi)
{
    const uint64_t *mask = v->b->masks + (size_t)q * v->b->width, *cells = v->cells[0];
    const int32_t first = lo >> 6, last = (hi - 1) >> 6;
    uint64_t all = 0;
    for (int32_t w = first; w <= last; w++) {
        uint64_t x = row == KEY ? cells[(size_t)w * CELL + KEY] : ~cells[(size_t)w * CELL + KNOWN];
        x &= mask[w];
        x &= w == first ? ALL << (lo & 63) : ALL;
        x &= w == last ? ALL >> (63 - ((hi - 1) & 63)) : ALL;
        all = row == KEY ? all ^ x : all | x;
        if (row != KEY && all) {
            return 1;
        }
    }
    return parity_of(all);
}

QK_INLINE void ask_mask(struct view *v, struct sink *s, int q, int32_t lo, int32_t mid)
{
    put_entry(s, MASK, q, lo, mid, mid);
    put_bits(s, masked(v, KEY, q, lo, mid), 1);
}

/* Two steps towards one error inside an odd mask: a half and, in both halves, a half. */
static void TIER(search_mask)(struct view *v, struct sink *s)
{
    struct frame *f = v->f;
    if (f->search < 0) {
        f->search = lowest(f->mask_odd);
        f->low = 0;
        f->high = f->length;
    }
    const int q = f->search;
    while (f->high - f->low > 1) {
        const int32_t lo = f->low, hi = f->high, mid = lo + half_of(hi - lo);
        if (!masked(v, KNOWN, q, lo, mid)) {
            f->low = mid;
        } else if (!masked(v, KNOWN, q, mid, hi)) {
            f->high = mid;
        } else {
            ask_mask(v, s, q, lo, mid);
            if (mid - lo > 1) {
                ask_mask(v, s, q, lo, lo + half_of(mid - lo));
            }
            if (hi - mid > 1) {
                ask_mask(v, s, q, mid, mid + half_of(hi - mid));
            }
            return;
        }
    }
    put_entry(s, MASK, q, f->low, f->low, f->low);
}

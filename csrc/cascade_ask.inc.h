/* What comes next: entries of a round, and the parities of this party's key that they ask for. */

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

static const uint64_t address_bits[6] = {
    UINT64_C(0xaaaaaaaaaaaaaaaa), UINT64_C(0xcccccccccccccccc), UINT64_C(0xf0f0f0f0f0f0f0f0),
    UINT64_C(0xff00ff00ff00ff00), UINT64_C(0xffff0000ffff0000), UINT64_C(0xffffffff00000000),
};

/* Asks for those bits of the address of a node's error that do not follow from the known places. */
QK_INLINE void ask_address(struct view *v, struct sink *s, int p, int32_t lo, int32_t hi)
{
    const uint64_t *cells = v->cells[p];
    const int32_t m = hi - lo;
    const int bits = m > 1 ? highest((uint64_t)(m - 1)) + 1 : 0, low_bits = bits < 6 ? bits : 6;
    uint32_t with = 0, without = 0, value = 0;
    for (int32_t at = 0; at < m; at += 64) {
        const int32_t length = m - at < 64 ? m - at : 64;
        const uint64_t open = ~window(cells, KNOWN, lo + at, length) & ALL >> (64 - length);
        const uint64_t key = window(cells, KEY, lo + at, length);
        for (int b = 0; b < low_bits; b++) {
            with |= (uint32_t)((open & address_bits[b]) != 0) << b;
            without |= (uint32_t)((open & ~address_bits[b]) != 0) << b;
            value ^= parity_of(key & address_bits[b]) << b;
        }
        if (open) {
            with |= (uint32_t)at;
            without |= ~(uint32_t)at & ~(uint32_t)63;
        }
        value ^= parity_of(key) ? (uint32_t)at : 0;
    }
    struct entry *e = put_entry(s, ADDRESS, p, lo, lo, hi);
    e->ask = with & without & (((uint32_t)1 << bits) - 1);
    e->implied = with & ~without;
    for (uint32_t ask = e->ask; ask; ask &= ask - 1) {
        put_bits(s, value >> lowest(ask) & 1, 1);
    }
}

/* One step of the search of an odd node: while one half is known the other follows. */
QK_INLINE void search_node(struct view *v, struct sink *s, int p, int32_t lo, int32_t hi, int32_t limit)
{
    uint64_t *cells = v->cells[p];
    if (hi - lo > limit && (lo ^ (hi - 1)) < 64) { /* the usual case: all in one cell */
        const int32_t mid = lo + half_of(hi - lo);
        const uint64_t *cell = cell_of(cells, lo);
        const uint64_t before_mid = bit_of(mid) - 1, left = before_mid & ALL << (lo & 63);
        const uint64_t right = ~before_mid & ALL >> (63 - ((hi - 1) & 63)), known = cell[KNOWN];
        if (left & ~known && right & ~known) {
            put_entry(s, HALF, p, lo, mid, hi);
            put_bits(s, parity_of(cell[KEY] & left), 1);
            return;
        }
    }
    while (hi - lo > limit) {
        const int32_t mid = lo + half_of(hi - lo);
        const int left = any_unknown(cells, lo, mid);
        if (left && any_unknown(cells, mid, hi)) {
            put_entry(s, HALF, p, lo, mid, hi);
            put_bits(s, range_parity(cells, lo, mid), 1);
            return;
        }
        cell_of(cells, mid)[CUT] |= bit_of(mid);
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
    const double most = one > all ? one : all, limit = p == PASSES - 1 && all_odd(f) > b->busy ? b->max_short_busy : b->max_short;
    return most < 2.0 ? 2 : (int32_t)(most > limit ? limit : most);
}

/* The next step in every odd node of a list. */
static void TIER(search_list)(struct view *v, struct sink *s, int p)
{
    if (!v->f->n_odd[p]) {
        return;
    }
    const int32_t limit = short_nodes(v, p);
    int32_t next = 0;
    for (size_t i = 0; i < cascade_sum_words(v->b); i++) {
        for (uint64_t sum = v->sums[p][i]; sum; sum &= sum - 1) {
            const int32_t at = (int32_t)(i << 6 | (size_t)lowest(sum)) << 6;
            for (uint64_t odd = cell_of(v->cells[p], at)[ODD]; odd; odd &= odd - 1) {
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

/* The rows of the last list, whose order is that of (position mod 64, position). */
static void TIER(build_last)(struct view *v)
{
    const size_t width = v->b->width, n = (size_t)v->f->length;
    uint64_t *to = v->cells[PASSES - 1];
    const uint64_t *from = v->cells[0];
    memset(to, 0, CELL * width * sizeof *to);
    if (n % (LANES * LANES)) {
        for (size_t i = 0; i < n; i++) {
            const uint64_t *cell = from + (i >> 6) * CELL;
            const size_t at = (size_t)strided(v->f->length, (int32_t)i);
            to[(at >> 6) * CELL + KEY] |= (cell[KEY] >> (i & 63) & 1) << (at & 63);
            to[(at >> 6) * CELL + KNOWN] |= (cell[KNOWN] >> (i & 63) & 1) << (at & 63);
        }
        return;
    }
    uint64_t x[LANES], y[LANES];
    for (size_t g = 0; g < width / LANES; g++) {
        for (int row = KEY; row < CELL; row += KNOWN - KEY) {
            for (size_t k = 0; k < LANES; k++) {
                x[k] = from[(g * LANES + k) * CELL + (size_t)row];
            }
            transpose(x, y);
            for (size_t k = 0; k < LANES; k++) {
                to[(k * (width / LANES) + g) * CELL + (size_t)row] = x[k];
            }
        }
    }
    qk_wipe(x, sizeof x);
    qk_wipe(y, sizeof y);
}

/* Cuts the next list into `count` blocks of 2 * block, then blocks of `block`. The last brings the masks along. */
static void TIER(open_pass)(struct view *v, struct sink *s, int32_t count, int32_t block)
{
    struct frame *f = v->f;
    const int p = f->opened++;
    const int32_t n = f->length;
    if (p < PASSES - 1) {
        f->current = p;
    } else {
        TIER(build_last)(v);
    }
    for (int32_t lo = 0, hi; lo < n; lo = hi) {
        const int32_t length = count > 0 ? 2 * block : block;
        count -= count > 0;
        hi = n - lo > length ? lo + length : n;
        cell_of(v->cells[p], lo)[CUT] |= bit_of(lo);
        if (p > 0 && hi == n) {
            f->last[p] = lo;
            set_odd(v, p, lo, (unsigned)f->n_odd[0] & 1);
            put_entry(s, BLOCK, p, lo, lo, hi);
        } else if (p == 0 || any_unknown(v->cells[p], lo, hi)) {
            put_entry(s, BLOCK, p, lo, hi, hi);
            put_bits(s, range_parity(v->cells[p], lo, hi), 1);
        }
    }
    for (int q = 0; p == PASSES - 1 && q < (int)v->b->n_masks; q++) {
        if (masked(v, KNOWN, q, 0, n)) {
            put_entry(s, MASK, q, 0, n, n);
            put_bits(s, masked(v, KEY, q, 0, n), 1);
        }
    }
}

QK_INLINE void halve_blocks(struct view *v, struct sink *s, int32_t count, int32_t block)
{
    const int32_t n = v->f->length, half = block / 2;
    const int64_t end = (int64_t)count * block < n - half ? (int64_t)count * block : n - half;
    for (int32_t lo = 0; lo < end; lo += block) {
        put_entry(s, SPLIT, 0, lo, lo + half, n - lo > block ? lo + block : n);
        put_bits(s, range_parity(v->cells[0], lo, lo + half), 1);
    }
}

QK_INLINE int is_clean(const struct frame *f)
{
    return f->asked && !all_odd(f) && !f->mask_odd && f->search < 0;
}

/* Chooses what a frame does, and for how many entries there must be room. */
QK_INLINE size_t choose(const struct qk_cascade *b, struct frame *f)
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
    size_t room = (size_t)all_odd(f) + 3;
    if (f->wish == OPEN) {
        room += (size_t)f->length / (size_t)f->wish_block + 2 + b->n_masks;
    }
    return f->wish == HALVE ? (size_t)f->wish_count : room;
}

QK_INLINE void plan(struct view *v, struct sink *s)
{
    struct frame *f = v->f;
    if (f->wish == HALVE) {
        halve_blocks(v, s, f->wish_count, f->wish_block);
    } else if (all_odd(f)) {
        TIER(search_list)(v, s, f->current);
        TIER(search_list)(v, s, PASSES - 1);
    } else if (f->wish == SEARCH) {
        TIER(search_mask)(v, s);
    }
    if (f->wish == OPEN) {
        TIER(open_pass)(v, s, f->wish_count, f->wish_block);
    }
    f->wish = IDLE;
}

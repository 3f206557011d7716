/* Searching one of the first two lists while the last is not open. Nothing else changes what the list says of its odd
 * nodes then, so each carries what its search needs from round to round, and rows are touched when it begins and when
 * it ends. Nodes of these lists begin at multiples of a power of two not below their length. */

/* Units of 1, 64, 4,096, ... places: binary logarithm of the one in which a node of this length has at most 64. */
QK_INLINE int unit_of(int32_t length)
{
    int unit = 0;
    while (((length - 1) >> unit) >= 64) {
        unit += 6;
    }
    return unit;
}

/* Of 64 words each: one bit a unit of `size` groups, from group c on; open: what is not known. */
QK_INLINE void load_groups(struct entry *e, const struct group *c, const struct group *end, ptrdiff_t size)
{
    e->key = e->open = 0;
    for (int i = 0; i < 64 && c < end; i++) {
        uint64_t parity = 0, known = ALL;
        for (const struct group *next = end - c < size ? end : c + size; c < next; c++) {
            parity ^= c->parity;
            known &= c->known;
        }
        e->key |= (uint64_t)parity_of(parity) << i;
        e->open |= (uint64_t)(known != ALL) << i;
    }
}

QK_INLINE void keep_units(struct entry *e, int shift, int32_t units)
{
    e->key = e->key >> shift & ALL >> (64 - units);
    e->open = e->open >> shift & ALL >> (64 - units);
}

/* The key of a node inside a cell, and what is not known of it. */
QK_INLINE void load_places(struct entry *e, const uint64_t *cell)
{
    e->key = cell[KEY];
    e->open = ~cell[KNOWN];
    keep_units(e, e->lo & 63, e->hi - e->lo);
}

/* The same for any node. */
QK_INLINE void load_node(const struct view *v, int p, struct entry *e)
{
    const int unit = unit_of(e->hi - e->lo);
    const int32_t units = ((e->hi - e->lo - 1) >> unit) + 1;
    const struct group *c = group_of(v, p, e->lo);
    if (unit == 0) {
        load_places(e, cell_of(v->cells[p], e->lo));
    } else if (unit == 6) {
        e->key = c->parity;
        e->open = ~c->known;
        keep_units(e, e->lo >> 6 & 63, units);
    } else {
        load_groups(e, c, v->groups[p] + cascade_groups(v->b), (ptrdiff_t)1 << (unit - 12));
        keep_units(e, 0, units);
    }
}

/* Cuts a node in the middle; goes on with the first half or the other one, and without a branch, as nobody can predict
 * which. Nothing is open where it must be loaded anew, unit by smaller unit. */
QK_INLINE void halve_node(struct view *v, int p, struct entry *e, int unit, int half, unsigned first)
{
    const int32_t length = half << unit, mid = e->lo + length, other = (int32_t)first - 1;
    const uint64_t mask = ((UINT64_C(1) << half) - 1) | (uint64_t)(int64_t)other;
    const int shift = half & other;
    if (unit) {
        group_of(v, p, mid)->first_cut |= bit_of(mid >> 6);
    } else {
        e->cuts |= bit_of(mid);
    }
    e->key = e->key >> shift & mask;
    e->open = e->open >> shift & mask;
    e->hi = mid + ((e->hi - mid) & other);
    e->lo += length & other;
    if (unit && e->hi - e->lo <= 1 << unit) {
        e->open = 0;
        prefetch(unit > 6 ? (const void *)group_of(v, p, e->lo) : cell_of(v->cells[p], e->lo));
    }
}

/* The units of a node, of which half come first. */
QK_INLINE int half_units(const struct entry *e, int unit) { return half_of(((e->hi - e->lo - 1) >> unit) + 1); }

/* Asks for a half or, if the node is short, for the address. */
QK_INLINE void ask_node(struct view *v, struct sink *s, int p, const struct entry *from, int32_t limit)
{
    struct entry e = *from;
    while (e.hi - e.lo > limit) {
        if (!e.open) {
            load_node(v, p, &e);
        }
        const int unit = unit_of(e.hi - e.lo), half = half_units(&e, unit);
        const uint64_t left = (UINT64_C(1) << half) - 1;
        if ((e.open & left) && e.open >> half) {
            put_bits(s, parity_of(e.key & left), 1);
            s->entries[s->n++] = e;
            return;
        }
        halve_node(v, p, &e, unit, half, (e.open & left) != 0);
    }
    const int32_t m = e.hi - e.lo;
    struct address a = {0, 0, 0};
    if (m > 64) {
        a = address_of(v, p, e.lo, e.hi);
    } else {
        if (!e.open) {
            load_node(v, p, &e);
        }
        add_places(&a, 0, e.key, e.open, ALL >> (64 - m), bits_of(m));
    }
    const uint32_t ask = a.with & a.without & (((uint32_t)1 << bits_of(m)) - 1);
    put_address(s, a.sum, ask);
    e.key = ask | (uint64_t)(a.with & ~a.without) << 32;
    s->entries[s->n++] = e;
}

/* Where a node of whole cells ends that begins at lo. */
QK_INLINE int32_t cells_end(const struct view *v, int p, int32_t lo)
{
    const struct group *c = group_of(v, p, lo), *end = v->groups[p] + cascade_groups(v->b);
    uint64_t x = c->first_cut & ALL << (lo >> 6 & 63) & ~bit_of(lo >> 6);
    while (!x) {
        if (++c == end) {
            return v->f->length;
        }
        x = c->first_cut;
    }
    return (int32_t)(c - v->groups[p]) << 12 | lowest(x) << 6;
}

/* Takes the odd nodes of a cell out of the rows. */
QK_INLINE void take_cell(struct view *v, struct sink *s, int p, int32_t at)
{
    if (!(group_of(v, p, at)->inner_cut >> (at >> 6 & 63) & 1)) {
        struct entry *e = s->entries + s->n++;
        e->lo = at;
        e->hi = cells_end(v, p, at);
        e->cuts = e->open = 0;
        return;
    }
    uint64_t *cell = cell_of(v->cells[p], at);
    const int32_t end = v->f->length - at < 64 ? v->f->length : at + 64;
    const uint64_t cuts = cell[CUT];
    for (uint64_t odd = odd_in(v, p, at); odd; odd &= odd - 1) {
        struct entry *e = s->entries + s->n++;
        const uint64_t next = cuts & ~(odd ^ (odd - 1));
        e->lo = at + lowest(odd);
        e->hi = next ? at + lowest(next) : end;
        e->cuts = 0;
        load_places(e, cell);
    }
    cell[ODD] = 0;
}

/* All odd nodes of a list leave the rows. */
static void TIER(take_out)(struct view *v, struct sink *s, int p)
{
    for (int32_t g = 0; g < (int32_t)cascade_groups(v->b); g++) {
        struct group *c = v->groups[p] + g;
        for (uint64_t cells = c->inner_odd; cells; cells &= cells - 1) {
            prefetch(cell_of(v->cells[p], (g << 6 | lowest(cells)) << 6));
        }
        for (uint64_t cells = c->first_odd | c->inner_odd; cells; cells &= cells - 1) {
            take_cell(v, s, p, (g << 6 | lowest(cells)) << 6);
        }
        c->first_odd = c->inner_odd = 0;
    }
}

/* Nodes whose search stops for now. */
static void TIER(put_back)(struct view *v, const struct entry *e, size_t n)
{
    for (const struct entry *end = e + n; e < end; e++) {
        cell_of(v->cells[v->f->alone], e->lo)[CUT] |= e->cuts;
        group_of(v, v->f->alone, e->lo)->inner_cut |= (uint64_t)(e->cuts != 0) << (e->lo >> 6 & 63);
        turn_odd(v, v->f->alone, e->lo, 1);
    }
}

/* The next step in every odd node of a list, those of the last round or all. */
static void TIER(search_alone)(struct view *v, struct sink *s, const struct entry *kept, size_t n)
{
    const int p = v->f->current;
    const int32_t limit = v->f->limit = short_nodes(v, p);
    if (!kept) {
        const size_t first = s->n;
        TIER(take_out)(v, s, p);
        kept = s->entries + first;
        n = s->n - first;
        s->n = first;
    }
    struct sink to = *s; /* a copy stays in registers */
    for (const struct entry *end = kept + n; kept < end;) {
        if (end - kept >= 8 && ask_eight(&to, kept, limit)) {
            kept += 8;
        } else {
            ask_node(v, &to, p, kept++, limit);
        }
    }
    *s = to;
}

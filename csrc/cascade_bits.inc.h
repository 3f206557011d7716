/* Bits of rows of cells, and parities of ranges. */

#if defined(__GNUC__) || defined(__clang__)
QK_INLINE int lowest(uint64_t x) { return __builtin_ctzll(x); }
QK_INLINE int highest(uint64_t x) { return 63 - __builtin_clzll(x); }
QK_INLINE unsigned parity_of(uint64_t x) { return (unsigned)__builtin_parityll(x); }
QK_INLINE int ones(uint64_t x) { return __builtin_popcountll(x); }
#else
QK_INLINE int ones(uint64_t x)
{
    x -= x >> 1 & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (int)(x * UINT64_C(0x0101010101010101) >> 56);
}
QK_INLINE int lowest(uint64_t x) { return ones(~x & (x - 1)); }
QK_INLINE int highest(uint64_t x)
{
    for (int s = 1; s < 64; s *= 2) {
        x |= x >> s;
    }
    return ones(x) - 1;
}
QK_INLINE unsigned parity_of(uint64_t x) { return (unsigned)ones(x) & 1; }
#endif

#if defined(__GNUC__) || defined(__clang__)
QK_INLINE void prefetch(const void *at) { __builtin_prefetch(at, 1); }
#else
QK_INLINE void prefetch(const void *at) { (void)at; }
#endif

#define ALL (~UINT64_C(0))

QK_INLINE uint64_t *cell_of(uint64_t *cells, int32_t i) { return cells + (size_t)(i >> 6) * CELL; }
QK_INLINE uint64_t bit_of(int32_t i) { return UINT64_C(1) << (i & 63); }

QK_INLINE struct group *group_of(const struct view *v, int p, int32_t i) { return v->groups[p] + (i >> 12); }

/* Ones where nodes of a cell begin, the first place included. */
QK_INLINE uint64_t cuts_in(const struct view *v, int p, int32_t i)
{
    return cell_of(v->cells[p], i)[CUT] | (group_of(v, p, i)->first_cut >> (i >> 6 & 63) & 1);
}

/* The same for odd nodes. */
QK_INLINE uint64_t odd_in(const struct view *v, int p, int32_t i)
{
    return cell_of(v->cells[p], i)[ODD] | (group_of(v, p, i)->first_odd >> (i >> 6 & 63) & 1);
}

/* The first node that begins after `lo`, or n. */
QK_INLINE int32_t node_end(const struct view *v, int p, int32_t lo)
{
    const uint64_t here = cuts_in(v, p, lo) & ALL << (lo & 63) & ~bit_of(lo);
    if (here) {
        return (lo & ~63) + lowest(here);
    }
    const struct group *c = group_of(v, p, lo), *end = v->groups[p] + cascade_groups(v->b);
    uint64_t x = (c->first_cut | c->inner_cut) & ALL << (lo >> 6 & 63) & ~bit_of(lo >> 6);
    while (!x) {
        if (++c == end) {
            return v->f->length;
        }
        x = c->first_cut | c->inner_cut;
    }
    const int32_t at = (int32_t)(c - v->groups[p]) << 12 | lowest(x) << 6;
    return at + lowest(cuts_in(v, p, at));
}

/* Where the node begins that holds index i. */
QK_INLINE int32_t node_begin(const struct view *v, int p, int32_t i)
{
    const uint64_t here = cuts_in(v, p, i) & ALL >> (63 - (i & 63));
    if (here) {
        return (i & ~63) + highest(here);
    }
    const struct group *c = group_of(v, p, i);
    uint64_t x = (c->first_cut | c->inner_cut) & (bit_of(i >> 6) - 1);
    while (!x) {
        c--;
        x = c->first_cut | c->inner_cut;
    }
    const int32_t at = (int32_t)(c - v->groups[p]) << 12 | highest(x) << 6;
    return at + highest(cuts_in(v, p, at));
}

/* Parity of this party's key from lo to hi > lo. */
QK_INLINE unsigned range_parity(const struct view *v, int p, int32_t lo, int32_t hi)
{
    uint64_t *cells = v->cells[p];
    const uint64_t head = ALL << (lo & 63), tail = (UINT64_C(1) << (hi & 63)) - 1;
    const int32_t first = (lo + 63) >> 6, last = hi >> 6;
    if (first > last) {
        return parity_of(cell_of(cells, lo)[KEY] & head & tail);
    }
    uint64_t x = lo & 63 ? cell_of(cells, lo)[KEY] & head : 0;
    x ^= hi & 63 ? cell_of(cells, hi)[KEY] & tail : 0;
    for (int32_t w = first; w < last; w = (w | 63) + 1) {
        const int32_t end = (w | 63) + 1 < last ? (w | 63) + 1 : last;
        x ^= parity_of(v->groups[p][w >> 6].parity >> (w & 63) & ALL >> (64 - (end - w)));
    }
    return parity_of(x);
}

/* Whether a place from lo to hi > lo is not known. */
QK_INLINE int any_unknown(const uint64_t *cells, int32_t lo, int32_t hi)
{
    const uint64_t tail = ALL >> (63 - ((hi - 1) & 63));
    const uint64_t *cell = cells + (size_t)(lo >> 6) * CELL, *last = cells + (size_t)((hi - 1) >> 6) * CELL;
    uint64_t x = ~cell[KNOWN] & ALL << (lo & 63);
    while (cell < last) {
        if (x) {
            return 1;
        }
        cell += CELL;
        x = ~cell[KNOWN];
    }
    return (x & tail) != 0;
}

/* Up to 64 bits of a row from index lo on; the next cell exists if it is needed. */
QK_INLINE uint64_t window(const uint64_t *cells, int row, int32_t lo, int32_t length)
{
    const uint64_t *cell = cells + (size_t)(lo >> 6) * CELL + row;
    const int shift = lo & 63;
    uint64_t x = cell[0] >> shift;
    if (shift + length > 64) {
        x |= cell[CELL] << (64 - shift);
    }
    return x & ALL >> (64 - length);
}

/* The last list holds position 0 and every 64th from there on, then the same from position 1 on, and so forth. */
QK_INLINE int32_t strided(int32_t n, int32_t position)
{
    const int32_t turn = position & 63, longer = n & 63;
    return turn * (n >> 6) + (turn < longer ? turn : longer) + (position >> 6);
}

QK_INLINE int32_t unstrided(int32_t n, int32_t i)
{
    const int32_t rows = n >> 6, longer = (n & 63) * (rows + 1);
    if (i < longer) {
        return i % (rows + 1) * 64 + i / (rows + 1);
    }
    return (i - longer) % rows * 64 + (n & 63) + (i - longer) / rows;
}

/* Index in a list to position and back. */
QK_INLINE int32_t position_of(const struct view *v, int p, int32_t i)
{
    return p == 0 ? i : p == 1 ? v->order[i] : unstrided(v->f->length, i);
}

QK_INLINE int32_t place_of(const struct view *v, int p, int32_t position)
{
    return p == 0 ? position : p == 1 ? v->places[2 * position] : strided(v->f->length, position);
}

/* The largest power of two below n > 1. */
QK_INLINE int32_t half_of(int32_t n) { return (int32_t)1 << highest((uint64_t)(n - 1)); }

/* Begins a node at i. */
QK_INLINE void set_cut(struct view *v, int p, int32_t i)
{
    struct group *c = group_of(v, p, i);
    if (i & 63) {
        cell_of(v->cells[p], i)[CUT] |= bit_of(i);
        c->inner_cut |= bit_of(i >> 6);
    } else {
        c->first_cut |= bit_of(i >> 6);
    }
}

/* If `turns`, the parity of the node at lo changes; without a branch on it. */
QK_INLINE void turn_odd(struct view *v, int p, int32_t lo, unsigned turns)
{
    struct group *c = group_of(v, p, lo);
    const int w = lo >> 6 & 63;
    if (lo & 63) {
        uint64_t *cell = cell_of(v->cells[p], lo);
        cell[ODD] ^= (uint64_t)turns << (lo & 63);
        c->inner_odd = (c->inner_odd & ~bit_of(w)) | (uint64_t)(cell[ODD] != 0) << w;
    } else {
        c->first_odd ^= (uint64_t)turns << w;
    }
}

QK_INLINE unsigned is_odd(const struct view *v, int p, int32_t lo)
{
    return (unsigned)(odd_in(v, p, lo) >> (lo & 63)) & 1;
}

/* Makes the node at lo odd (1) or even (0). */
QK_INLINE void set_odd(struct view *v, int p, int32_t lo, unsigned odd)
{
    const unsigned before = is_odd(v, p, lo);
    turn_odd(v, p, lo, before ^ odd);
    v->f->n_odd[p] += (int)odd - (int)before;
}

/* The node at lo holds an error more or less. */
QK_INLINE void change_odd(struct view *v, int p, int32_t lo)
{
    turn_odd(v, p, lo, 1);
    v->f->n_odd[p] += is_odd(v, p, lo) ? 1 : -1;
}

/* At place i an error was found, or it is known now whether there is one. */
QK_INLINE void change_place(struct view *v, int p, int32_t i, unsigned error, unsigned known)
{
    uint64_t *cell = cell_of(v->cells[p], i);
    struct group *c = group_of(v, p, i);
    const uint64_t turns = error & (unsigned)v->b->corrects;
    cell[KEY] ^= turns << (i & 63);
    cell[KNOWN] |= (uint64_t)known << (i & 63);
    c->parity ^= turns << (i >> 6 & 63);
    c->known |= (uint64_t)(cell[KNOWN] == ALL) << (i >> 6 & 63);
}

/* Bit j of word i becomes bit i of word j. Six times the same step, which turns the number of a word by one bit. */
QK_INLINE void transpose(uint64_t x[LANES], uint64_t y[LANES])
{
    static const uint64_t low[6] = {
        UINT64_C(0x00000000ffffffff), UINT64_C(0x0000ffff0000ffff), UINT64_C(0x00ff00ff00ff00ff),
        UINT64_C(0x0f0f0f0f0f0f0f0f), UINT64_C(0x3333333333333333), UINT64_C(0x5555555555555555),
    };
    for (int step = 0; step < 6; step++) {
        const int shift = 32 >> step;
        const uint64_t m = low[step];
        uint64_t *from = step & 1 ? y : x, *to = step & 1 ? x : y;
        for (int i = 0; i < LANES / 2; i++) {
            const uint64_t a = from[i], b = from[i + LANES / 2];
            to[2 * i] = (a & m) | (b & m) << shift;
            to[2 * i + 1] = (a >> shift & m) | (b & ~m);
        }
    }
}

/* The key in the order of each list: 64 frames at once, one a bit of a word, or bit by bit. */

/* 64 bits of a packed string from bit `at` on, of which `count` are wanted. */
QK_INLINE uint64_t bits_from(const uint64_t *words, uint64_t at, size_t count)
{
    const int shift = (int)(at & 63);
    uint64_t x = qk_load64(words + (at >> 6)) >> shift;
    if ((size_t)shift + count > 64) {
        x |= qk_load64(words + (at >> 6) + 1) << (64 - shift);
    }
    return count < 64 ? x & ((UINT64_C(1) << count) - 1) : x;
}

/* Rows of bits of 64 frames from `first` on: word i holds bit i of all. Frames beyond the last full one are zero. */
static void TIER(slice)(const struct qk_cascade *b, const uint64_t *key, uint64_t start, size_t lanes, uint64_t *sliced)
{
    uint64_t x[LANES] = {0}, y[LANES];
    const size_t n = b->frame_bits;
    for (size_t at = 0; at < n; at += LANES) {
        const size_t count = n - at < LANES ? n - at : LANES;
        for (size_t f = 0; f < LANES; f++) {
            x[f] = f < lanes ? bits_from(key, start + f * n + at, count) : 0;
        }
        transpose(x, y);
        memcpy(sliced + at, x, sizeof x);
    }
    qk_wipe(x, sizeof x);
    qk_wipe(y, sizeof y);
}

/* Parities of the cells of a group in all frames: bit f of word i is that of cell i of frame f. */
QK_INLINE void put_parities(const struct qk_cascade *b, size_t first, size_t lanes, int p, size_t group,
                            uint64_t x[LANES])
{
    uint64_t y[LANES];
    transpose(x, y);
    for (size_t f = 0; f < lanes; f++) {
        cascade_view(b, first + f).groups[p][group].parity = x[f];
    }
    memset(x, 0, LANES * sizeof *x);
    qk_wipe(y, sizeof y);
}

/* One list of 64 frames. */
static void TIER(unslice)(const struct qk_cascade *b, size_t first, size_t lanes, int p, const uint64_t *sliced)
{
    uint64_t x[2][LANES], y[LANES], parities[LANES] = {0};
    const size_t n = b->frame_bits, stride = cascade_stride(b);
    const struct view v = cascade_view(b, first);
    uint64_t *to = cascade_rows(b, first) + (size_t)p * CELL * b->width;
    for (size_t w = 0; w < b->width; w += 2, to += 2 * CELL) {
        const size_t pair = b->width - w > 1 ? 2 : 1;
        for (size_t k = 0; k < pair; k++) {
            const size_t at = (w + k) * LANES, count = n - at < LANES ? n - at : LANES;
            uint64_t sum = 0;
            for (size_t i = 0; i < LANES; i++) {
                x[k][i] = i < count ? sliced[v.places[2 * position_of(&v, p, (int32_t)(at + i)) + 1]] : 0;
                sum ^= x[k][i];
            }
            parities[(w + k) % LANES] = sum;
            transpose(x[k], y);
        }
        for (size_t f = 0; f < lanes; f++) {
            for (size_t k = 0; k < pair; k++) {
                put_cell(to + f * stride + k * CELL, x[k][f]);
            }
        }
        if ((w + pair) % LANES == 0 || w + pair == b->width) {
            put_parities(b, first, lanes, p, w / LANES, parities);
        }
    }
    qk_wipe(x, sizeof x);
    qk_wipe(y, sizeof y);
    qk_wipe(parities, sizeof parities);
    cells_put();
}

static void TIER(load_lanes)(struct qk_cascade *b, size_t first, size_t lanes, const uint64_t *key, uint64_t start,
                             uint64_t *sliced)
{
    TIER(slice)(b, key, start + first * b->frame_bits, lanes, sliced);
    TIER(unslice)(b, first, lanes, 0, sliced);
    TIER(unslice)(b, first, lanes, 1, sliced);
}

static void TIER(load_frame)(struct qk_cascade *b, size_t number, const uint64_t *key, uint64_t start)
{
    const struct view v = cascade_view(b, number);
    const int32_t n = v.f->length;
    memset(v.cells[0], 0, 2 * CELL * b->width * sizeof(uint64_t));
    for (int32_t i = 0; i < n; i++) {
        const uint64_t from = start + number * b->frame_bits + (uint64_t)v.places[2 * i + 1];
        const uint64_t bit = qk_load64(key + (from >> 6)) >> (from & 63) & 1;
        cell_of(v.cells[0], i)[KEY] |= bit << (i & 63);
        cell_of(v.cells[1], v.places[2 * i])[KEY] |= bit << (v.places[2 * i] & 63);
    }
    for (int p = 0; p < 2; p++) {
        for (int32_t i = 0; i < n; i += LANES) {
            const unsigned parity = parity_of(cell_of(v.cells[p], i)[KEY]);
            group_of(&v, p, i)->parity |= (uint64_t)parity << (i >> 6 & 63);
        }
    }
}

void TIER(cascade_load)(struct qk_cascade *b, const uint64_t *key, uint64_t start, uint64_t *scratch)
{
    enum { WORTH = 32 };
    const size_t full = b->n_frames - (b->last_bits != b->frame_bits);
    size_t f = 0;
    for (size_t lanes; f < full && full - f >= WORTH; f += lanes) {
        lanes = full - f < LANES ? full - f : LANES;
        TIER(load_lanes)(b, f, lanes, key, start, scratch);
    }
    if (f > 0) {
        qk_wipe(scratch, LANES * b->width * sizeof *scratch);
    }
    for (; f < b->n_frames; f++) {
        TIER(load_frame)(b, f, key, start);
    }
    for (f = 0; f < b->n_frames; f++) {
        const struct view v = cascade_view(b, f);
        const int32_t n = v.f->length;
        for (int p = 0; p < 2 && n & 63; p++) {
            cell_of(v.cells[p], n)[KNOWN] = ALL << (n & 63);
        }
    }
}

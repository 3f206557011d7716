/* Checks, syndromes and corrections of one frame. The tier's file defines TIER, vectors V of VL words with v_load,
 * v_store, v_xor, v_turned (the words of VL places), and compress, spread, count_ones, lowest_one, ahead. */

QK_INLINE uint64_t turned(const uint64_t *rows, const uint32_t *order, size_t place)
{
    const uint32_t entry = qk_load32(order + place);
    const uint64_t x = qk_load64(rows + (entry >> 6));
    return x << (entry & 63) | x >> (-entry & 63);
}

/* Halves a list of rows: sums[g] becomes the sum of column g of the upper half, which is added to the lower one. */
QK_INLINE void fold(uint64_t *sums, uint64_t *t, size_t half, size_t groups)
{
    size_t g = 0;
    for (; g + VL <= groups; g += VL) {
        V sum = v_load(t + half + g);
        v_store(t + g, v_xor(v_load(t + g), sum));
        for (size_t x = g + groups; x < half; x += groups) {
            const V upper = v_load(t + half + x);
            sum = v_xor(sum, upper);
            v_store(t + x, v_xor(v_load(t + x), upper));
        }
        v_store(sums + g, sum);
    }
    for (; g < groups; g++) {
        uint64_t sum = 0;
        for (size_t x = g; x < half; x += groups) {
            const uint64_t upper = qk_load64(t + half + x);
            sum ^= upper;
            qk_store64(t + x, qk_load64(t + x) ^ upper);
        }
        qk_store64(sums + g, sum);
    }
}

#if VL > 1
/* The same where several rows fit into a vector: groups divides VL, and VL divides half. */
QK_INLINE void fold_rows(uint64_t *sums, uint64_t *t, size_t half, size_t groups)
{
    uint64_t parts[VL];
    V sum = v_load(t + half);
    v_store(t, v_xor(v_load(t), sum));
    for (size_t x = VL; x < half; x += VL) {
        const V upper = v_load(t + half + x);
        sum = v_xor(sum, upper);
        v_store(t + x, v_xor(v_load(t + x), upper));
    }
    v_store(parts, sum);
    for (size_t x = groups; x < VL; x++) {
        parts[x % groups] ^= parts[x];
    }
    for (size_t g = 0; g < groups; g++) {
        qk_store64(sums + g, parts[g]);
    }
    qk_wipe(parts, sizeof parts);
}
#endif

static void TIER(checks)(uint64_t *sums, uint64_t *syndromes, const uint64_t *rows, const uint32_t *order,
                         struct shape shape, uint64_t *t, const uint64_t *next)
{
    const size_t n = shape.words, groups = shape.groups, all = groups << shape.width;
    size_t p = 0;
    for (; p + VL <= n; p += VL) {
        ahead(next + p);
        v_store(t + p, v_turned(rows, order + p));
    }
    for (; p < n; p++) {
        qk_store64(t + p, turned(rows, order, p));
    }
    for (; p < all; p++) {
        qk_store64(t + p, 0);
    }
    for (int j = shape.width; j-- > 0;) {
        const size_t half = groups << j;
#if VL > 1
        if (groups < VL && VL % groups == 0 && half % VL == 0) {
            fold_rows(syndromes + (size_t)j * groups, t, half, groups);
            continue;
        }
#endif
        fold(syndromes + (size_t)j * groups, t, half, groups);
    }
    memcpy(sums, t, groups * sizeof *t);
}

static int TIER(pick)(struct bit_stream *s, const uint64_t *syndromes, const uint64_t *flags, struct shape shape)
{
    for (size_t j = 0; j < (size_t)shape.width; j++) {
        for (size_t g = 0; g < shape.groups; g++) {
            const uint64_t mask = qk_load64(flags + g);
            const uint64_t x = compress(qk_load64(syndromes + j * shape.groups + g), mask);
            const unsigned count = count_ones(mask);
            s->held |= x << s->n_held;
            if (s->n_held + count < 64) {
                s->n_held += count;
                continue;
            }
            if (s->at == s->n_words) {
                return 0;
            }
            qk_store64(s->to + s->at++, s->held);
            s->held = s->n_held ? x >> (64 - s->n_held) : 0;
            s->n_held += count - 64;
        }
    }
    return 1;
}

/* The next bits of a string, at most 64; 0 if it ends before. */
QK_INLINE int take(uint64_t *x, struct bit_stream *s, unsigned count)
{
    *x = s->held;
    if (count > s->n_held) {
        if (s->at == s->n_words) {
            return 0;
        }
        const uint64_t word = qk_load64(s->from + s->at++);
        const unsigned used = count - s->n_held;
        *x |= word << s->n_held;
        s->held = used < 64 ? word >> used : 0;
        s->n_held = 64 - used;
    } else {
        s->held = count < 64 ? s->held >> count : 0;
        s->n_held -= count;
    }
    return 1;
}

/* Inverts the bit that is row `row` of column `column` of a group, if the frame has it. */
QK_INLINE void flip(uint64_t *rows, uint64_t *found, size_t start, size_t n_bits, const uint32_t *order,
                    struct shape shape, size_t place, unsigned column)
{
    if (place >= shape.words) {
        return;
    }
    const uint32_t entry = qk_load32(order + place);
    const size_t word = entry >> 6, lane = (column - entry) & 63, bit = lane * shape.words + word;
    if (bit < n_bits) {
        uint64_t *to = found + ((start + bit) >> 6);
        qk_store64(rows + word, qk_load64(rows + word) ^ UINT64_C(1) << lane);
        qk_store64(to, qk_load64(to) ^ UINT64_C(1) << ((start + bit) & 63));
    }
}

static int TIER(invert)(uint64_t *rows, uint64_t *found, size_t start, uint64_t *syndromes, const uint64_t *flags,
                        struct bit_stream *s, const uint32_t *order, size_t n_bits, struct shape shape)
{
    for (size_t j = 0; j < (size_t)shape.width; j++) {
        for (size_t g = 0; g < shape.groups; g++) {
            const uint64_t mask = qk_load64(flags + g);
            uint64_t theirs, *own = syndromes + j * shape.groups + g;
            if (!take(&theirs, s, count_ones(mask))) {
                return 0;
            }
            qk_store64(own, qk_load64(own) ^ spread(theirs, mask));
        }
    }
    for (size_t g = 0; g < shape.groups; g++) {
        for (uint64_t mask = qk_load64(flags + g); mask; mask &= mask - 1) {
            const unsigned column = lowest_one(mask);
            size_t row = 0;
            for (size_t j = 0; j < (size_t)shape.width; j++) {
                row |= (size_t)(qk_load64(syndromes + j * shape.groups + g) >> column & 1) << j;
            }
            flip(rows, found, start, n_bits, order, shape, row * shape.groups + g, column);
        }
    }
    return 1;
}

const struct hamming_tier TIER(hamming) = {.checks = TIER(checks), .pick = TIER(pick), .invert = TIER(invert)};

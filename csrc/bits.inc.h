/* Bit tools, the body of every tier. The tier's file defines
 *
 *     uint64_t test64(const uint8_t *bytes, uint8_t mask)                bit i: whether bytes[i] & mask is not 0
 *     void bytes64(uint8_t *bytes, const uint64_t *words, unsigned n)    bit j < n of bytes[i]: bit i of words[j]; n <= 8
 *     unsigned ones(uint64_t word)                                       how many
 *     uint64_t gather64(const uint64_t *words, const int32_t *order)     bit i: bit order[i] of words
 */

static void pack(uint64_t *out, const uint8_t *flags, size_t n_words)
{
    for (size_t w = 0; w < n_words; w++) {
        qk_store64(out + w, test64(flags + 64 * w, 0xFF));
    }
}

static void unpack(uint8_t *flags, const uint64_t *words, size_t n_words)
{
    for (size_t w = 0; w < n_words; w++) {
        const uint64_t word = qk_load64(words + w);
        bytes64(flags + 64 * w, &word, 1);
    }
}

/* Negative unless n of an order are from 0 to last. */
QK_INLINE int32_t beyond(const int32_t *order, size_t n, int32_t last)
{
    int32_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t at = (int32_t)qk_load32(order + i);
        wrong |= at | (int32_t)((uint32_t)last - (uint32_t)at);
    }
    return wrong;
}

static int gather(uint64_t *out, const uint64_t *words, size_t n_bits, const int32_t *order, size_t n)
{
    const int32_t last = n_bits > INT32_MAX ? INT32_MAX : (int32_t)n_bits - 1;
    const size_t n_whole = n / 64, n_rest = n % 64;
    for (size_t w = 0; w < n_whole; w++) {
        if (beyond(order + 64 * w, 64, last) < 0) {
            return QK_BAD_SIZE;
        }
        qk_store64(out + w, gather64(words, order + 64 * w));
    }
    if (n_rest) {
        int32_t rest[64] = {0};
        memcpy(rest, order + 64 * n_whole, n_rest * sizeof *rest);
        if (beyond(rest, n_rest, last) < 0) {
            return QK_BAD_SIZE;
        }
        qk_store64(out + n_whole, gather64(words, rest) & ~(~(uint64_t)0 << n_rest));
    }
    return QK_OK;
}

static uint64_t distance(const uint64_t *a, const uint64_t *b, size_t n_words)
{
    uint64_t count = 0;
    for (size_t w = 0; w < n_words; w++) {
        count += ones(qk_load64(a + w) ^ qk_load64(b + w));
    }
    return count;
}

/* Squares of 64, 32, ... 2 rows and as many columns, their off-diagonal quarters exchanged, in all lanes at once. */
QK_INLINE void exchange(uint64_t *rows, const size_t half, const uint64_t low)
{
    for (size_t r = 0; r < 64; r += r % half == half - 1 ? half + 1 : 1) {
        uint64_t *a = rows + r * BITS_LANES, *b = a + half * BITS_LANES;
        for (size_t l = 0; l < BITS_LANES; l++) {
            const uint64_t x = a[l], y = b[l];
            a[l] = (x & low) | (y & low) << half;
            b[l] = (x & ~low) >> half | (y & ~low);
        }
    }
}

static void transpose(uint64_t *tile, const uint64_t *words, size_t stride)
{
    uint64_t rows[64 * BITS_LANES];
    for (size_t r = 0; r < 64; r++) {
        memcpy(rows + r * BITS_LANES, words + r * stride, BITS_LANES * sizeof *rows);
    }
    exchange(rows, 32, 0x00000000FFFFFFFF);
    exchange(rows, 16, 0x0000FFFF0000FFFF);
    exchange(rows, 8, 0x00FF00FF00FF00FF);
    exchange(rows, 4, 0x0F0F0F0F0F0F0F0F);
    exchange(rows, 2, 0x3333333333333333);
    exchange(rows, 1, 0x5555555555555555);
    for (size_t l = 0; l < BITS_LANES; l++) {
        for (size_t c = 0; c < 64; c++) {
            tile[64 * l + c] = rows[c * BITS_LANES + l];
        }
    }
    qk_wipe(rows, sizeof rows);
}

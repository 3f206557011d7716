/* Bit tools: checks, ends that are not whole words, large transpositions; the tiers supply the rest. */
#include "bits.h"

enum { TILE = 64 };

int qk_bits_pack(uint64_t *out, const uint8_t *flags, size_t n)
{
    const struct qk_bits *tier = qk_active()->bits;
    const size_t n_whole = n / TILE, n_rest = n % TILE;
    tier->pack(out, flags, n_whole);
    if (n_rest) {
        uint8_t rest[TILE] = {0};
        memcpy(rest, flags + n_whole * TILE, n_rest);
        tier->pack(out + n_whole, rest, 1);
        qk_wipe(rest, sizeof rest);
    }
    return QK_OK;
}

int qk_bits_unpack(uint8_t *flags, const uint64_t *words, size_t n)
{
    const struct qk_bits *tier = qk_active()->bits;
    const size_t n_whole = n / TILE, n_rest = n % TILE;
    tier->unpack(flags, words, n_whole);
    if (n_rest) {
        uint8_t rest[TILE];
        tier->unpack(rest, words + n_whole, 1);
        memcpy(flags + n_whole * TILE, rest, n_rest);
        qk_wipe(rest, sizeof rest);
    }
    return QK_OK;
}

int qk_bits_gather(uint64_t *out, const uint64_t *words, size_t n_bits, const int32_t *order, size_t n)
{
    return qk_active()->bits->gather(out, words, n_bits, order, n);
}

/* 64 rows, or what is left of them, of up to BITS_LANES words. */
static void transpose_band(const struct qk_bits *tier, uint64_t *tile, const uint64_t *words, size_t stride, size_t n_rows,
                           size_t n_lanes)
{
    if (n_rows == TILE && n_lanes == BITS_LANES) {
        tier->transpose(tile, words, stride);
        return;
    }
    uint64_t padded[TILE * BITS_LANES] = {0};
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(padded + r * BITS_LANES, words + r * stride, n_lanes * sizeof *words);
    }
    tier->transpose(tile, padded, BITS_LANES);
    qk_wipe(padded, sizeof padded);
}

int qk_bits_transpose(uint64_t *out, const uint64_t *words, size_t n_rows, size_t n_columns)
{
    enum { BANDS = 8 }; /* a row of 8 words of out is a line of the cache */
    uint64_t tiles[BANDS][TILE * BITS_LANES];
    const size_t n_in = (n_columns + TILE - 1) / TILE, n_out = (n_rows + TILE - 1) / TILE;
    for (size_t b = 0; b < n_out; b += BANDS) {
        const size_t n_bands = n_out - b < BANDS ? n_out - b : BANDS;
        for (size_t l = 0; l < n_in; l += BITS_LANES) {
            const size_t n_lanes = n_in - l < BITS_LANES ? n_in - l : BITS_LANES;
            const size_t n_here = n_columns - l * TILE < n_lanes * TILE ? n_columns - l * TILE : n_lanes * TILE;
            for (size_t i = 0; i < n_bands; i++) {
                const size_t first = (b + i) * TILE, n = n_rows - first < TILE ? n_rows - first : TILE;
                transpose_band(qk_active()->bits, tiles[i], words + first * n_in + l, n_in, n, n_lanes);
            }
            for (size_t c = 0; c < n_here; c++) {
                for (size_t i = 0; i < n_bands; i++) {
                    qk_store64(out + (l * TILE + c) * n_out + b + i, tiles[i][c]);
                }
            }
        }
    }
    qk_wipe(tiles, sizeof tiles);
    return QK_OK;
}

int qk_bits_distance(uint64_t *count, const uint64_t *a, const uint64_t *b, size_t n_words)
{
    qk_store64(count, qk_active()->bits->distance(a, b, n_words));
    return QK_OK;
}

int qk_bytes_pick(uint8_t *out, uint64_t *n_picked, const uint8_t *bytes, const uint8_t *flags, size_t n)
{
    size_t picked = 0;
    for (size_t i = 0; i < n; i++) {
        out[picked] = bytes[i];
        picked += flags[i] != 0;
    }
    qk_store64(n_picked, picked);
    return QK_OK;
}

int qk_bytes_spread(uint8_t *out, const uint8_t *flags, size_t n, const uint8_t *bytes, size_t n_bytes)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t flag = flags[i] != 0;
        if (used == n_bytes) {
            if (flag) {
                return QK_BAD_SIZE;
            }
            out[i] = 0;
            continue;
        }
        out[i] = (uint8_t)(bytes[used] & (0 - flag));
        used += flag;
    }
    return used == n_bytes ? QK_OK : QK_BAD_SIZE;
}

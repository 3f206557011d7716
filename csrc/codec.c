/* The codec of announcements: gaps from slots and flags and back; the tiers code the gaps. */
#include "bits.h"

int qk_gaps_of_slots(int64_t *gaps, const int64_t *slots, size_t n)
{
    int64_t before = -1, wrong = 0;
    for (size_t i = 0; i < n; i++) {
        /* Modulo 2^64: of two slots from 0 on, the difference is negative exactly if they decrease. */
        const int64_t slot = bits_load(slots + i), gap = (int64_t)((uint64_t)slot - (uint64_t)before - 1);
        wrong |= gap | slot;
        bits_store(gaps + i, gap);
        before = slot;
    }
    return wrong < 0 ? QK_BAD_ORDER : QK_OK;
}

int qk_gaps_of_bits(int64_t *gaps, size_t capacity, uint64_t *n_gaps, const uint64_t *words, size_t n_bits, int flip)
{
    const uint64_t flips = flip ? ~(uint64_t)0 : 0;
    int64_t before = -1;
    size_t n = 0;
    for (size_t first = 0; first < n_bits; first += 64) {
        uint64_t word = qk_load64(words + first / 64) ^ flips;
        if (n_bits - first < 64) {
            word &= ~(~(uint64_t)0 << (n_bits - first));
        }
        for (; word; word &= word - 1) {
            const int64_t at = (int64_t)first + __builtin_ctzll(word);
            if (n == capacity) {
                return QK_NO_ROOM;
            }
            bits_store(gaps + n++, at - before - 1);
            before = at;
        }
    }
    qk_store64(n_gaps, n);
    return QK_OK;
}

int qk_gaps_encode(uint8_t *out, size_t capacity, uint64_t *n_bytes, const int64_t *gaps, size_t n)
{
    return n ? qk_active()->bits->encode(out, capacity, n_bytes, gaps, n) : QK_BAD_SIZE;
}

int qk_gaps_decode(int64_t *positions, size_t n, const uint8_t *code, size_t n_bytes, int64_t limit)
{
    if (n == 0 || limit < 0 || limit >> 62) {
        return QK_BAD_SIZE;
    }
    return qk_active()->bits->decode(positions, n, code, n_bytes, limit);
}

int qk_flags_flip(uint8_t *flags, size_t n, const int64_t *positions, size_t n_positions)
{
    for (size_t i = 0; i < n_positions; i++) {
        const uint64_t at = (uint64_t)bits_load(positions + i);
        if (at >= n) {
            return QK_BAD_SIZE;
        }
        flags[at] ^= 1;
    }
    return QK_OK;
}

/* Bit tools in plain words: the definition of the tiers. */
#include "bits.h"
#include "qk_target.h"

#define EACH_BYTE 0x0101010101010101ULL

/* 1 in every byte that is not 0; 0 in the others. */
QK_INLINE uint64_t not_zero(uint64_t x)
{
    const uint64_t low = 0x7F * EACH_BYTE;
    return (((x & low) + low) | x) >> 7 & EACH_BYTE;
}

QK_INLINE uint64_t test64(const uint8_t *bytes, uint8_t mask)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) {
        const uint64_t set = not_zero(qk_load64(bytes + 8 * i) & mask * EACH_BYTE);
        word |= (set * 0x0102040810204080 >> 56) << 8 * i;
    }
    return word;
}

QK_INLINE void bytes64(uint8_t *bytes, const uint64_t *words, unsigned n)
{
    for (int i = 0; i < 8; i++) {
        uint64_t eight = 0;
        for (unsigned j = 0; j < n; j++) {
            const uint64_t spread = (words[j] >> 8 * i & 0xFF) * EACH_BYTE & 0x8040201008040201;
            eight |= not_zero(spread) << j;
        }
        qk_store64(bytes + 8 * i, eight);
    }
}

QK_INLINE unsigned ones(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555;
    x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F;
    return (unsigned)(x * EACH_BYTE >> 56);
}

/* Four quarters at a time, so that they need not wait for each other. */
QK_INLINE uint64_t gather64(const uint64_t *words, const int32_t *order)
{
    uint64_t quarters[4] = {0, 0, 0, 0};
    for (int i = 15; i >= 0; i--) {
        for (int q = 0; q < 4; q++) {
            const uint32_t at = qk_load32(order + 16 * q + i);
            quarters[q] = quarters[q] << 1 | (qk_load64(words + (at >> 6)) >> (at & 63) & 1);
        }
    }
    return quarters[0] | quarters[1] << 16 | quarters[2] << 32 | quarters[3] << 48;
}

#include "bits.inc.h"
#include "codec.inc.h"

const struct qk_bits qk_bits_portable = {pack, unpack, gather, transpose, distance, encode, decode};

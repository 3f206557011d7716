/* Hamming checks word by word: the definition of the tiers. */
#include "hamming.h"

#define TIER(name) name##_portable

typedef uint64_t V;
#define VL 1

QK_INLINE uint64_t turned(const uint64_t *rows, const uint32_t *order, size_t place);

QK_INLINE V v_load(const uint64_t *at) { return qk_load64(at); }
QK_INLINE void v_store(uint64_t *at, V a) { qk_store64(at, a); }
QK_INLINE V v_xor(V a, V b) { return a ^ b; }
QK_INLINE V v_turned(const uint64_t *rows, const uint32_t *order) { return turned(rows, order, 0); }
QK_INLINE void ahead(const uint64_t *at) { (void)at; }

QK_INLINE unsigned count_ones(uint64_t x)
{
    x -= x >> 1 & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (unsigned)(x * UINT64_C(0x0101010101010101) >> 56);
}

QK_INLINE unsigned lowest_one(uint64_t x) { return count_ones((x & -x) - 1); }

QK_INLINE uint64_t compress(uint64_t x, uint64_t mask)
{
    uint64_t y = 0;
    for (unsigned i = 0; mask; mask &= mask - 1, i++) {
        y |= (x >> lowest_one(mask) & 1) << i;
    }
    return y;
}

QK_INLINE uint64_t spread(uint64_t x, uint64_t mask)
{
    uint64_t y = 0;
    for (; mask; mask &= mask - 1, x >>= 1) {
        y |= (x & 1) << lowest_one(mask);
    }
    return y;
}

#include "hamming.inc.h"

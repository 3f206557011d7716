/* Carry-less products without secret-dependent branches, addresses or tables.
 *
 * Integer multiplication multiplies polynomials when the operands have holes:
 * with bits at every fourth position only, at most 15 ones meet at a position
 * that is kept, and no carry reaches the next kept position (at most 16 ones
 * could meet, at position 60, whose carry leaves the word). The high half of a
 * product is the low half of the reversed operands, reversed. */
#ifndef CLMUL_PORTABLE_H
#define CLMUL_PORTABLE_H

#include <stdint.h>

/* Coefficients 0 to 63 of the product. */
static inline uint64_t clmul_low(uint64_t x, uint64_t y)
{
    const uint64_t m0 = UINT64_C(0x1111111111111111), m1 = m0 << 1, m2 = m0 << 2, m3 = m0 << 3;
    const uint64_t x0 = x & m0, x1 = x & m1, x2 = x & m2, x3 = x & m3;
    const uint64_t y0 = y & m0, y1 = y & m1, y2 = y & m2, y3 = y & m3;
    const uint64_t z0 = (x0 * y0) ^ (x1 * y3) ^ (x2 * y2) ^ (x3 * y1);
    const uint64_t z1 = (x0 * y1) ^ (x1 * y0) ^ (x2 * y3) ^ (x3 * y2);
    const uint64_t z2 = (x0 * y2) ^ (x1 * y1) ^ (x2 * y0) ^ (x3 * y3);
    const uint64_t z3 = (x0 * y3) ^ (x1 * y2) ^ (x2 * y1) ^ (x3 * y0);
    return (z0 & m0) | (z1 & m1) | (z2 & m2) | (z3 & m3);
}

/* The bits in the opposite order. */
static inline uint64_t reverse64(uint64_t x)
{
    x = ((x >> 1) & UINT64_C(0x5555555555555555)) | ((x & UINT64_C(0x5555555555555555)) << 1);
    x = ((x >> 2) & UINT64_C(0x3333333333333333)) | ((x & UINT64_C(0x3333333333333333)) << 2);
    x = ((x >> 4) & UINT64_C(0x0f0f0f0f0f0f0f0f)) | ((x & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4);
    x = ((x >> 8) & UINT64_C(0x00ff00ff00ff00ff)) | ((x & UINT64_C(0x00ff00ff00ff00ff)) << 8);
    x = ((x >> 16) & UINT64_C(0x0000ffff0000ffff)) | ((x & UINT64_C(0x0000ffff0000ffff)) << 16);
    return (x >> 32) | (x << 32);
}

/* All 127 coefficients. */
static inline void clmul_wide(uint64_t *high, uint64_t *low, uint64_t x, uint64_t y)
{
    *low = clmul_low(x, y);
    *high = reverse64(clmul_low(reverse64(x), reverse64(y))) >> 1;
}

#endif

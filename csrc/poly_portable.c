/* Horner's rule over GF(2^128), x^128 + x^7 + x^2 + x + 1: the definition of the tiers. */
#include "clmul_portable.h"
#include "poly_tiers.h"

/* a = a * k, Karatsuba's three products and the reduction by x^128 = x^7 + x^2 + x + 1. */
static void multiply(uint64_t a[2], const uint64_t k[2])
{
    uint64_t h0, l0, h1, l1, h2, l2;
    clmul_wide(&h0, &l0, a[0], k[0]);
    clmul_wide(&h1, &l1, a[1], k[1]);
    clmul_wide(&h2, &l2, a[0] ^ a[1], k[0] ^ k[1]);
    const uint64_t p0 = l0, p3 = h1;
    uint64_t p1 = h0 ^ l0 ^ l1 ^ l2, p2 = l1 ^ h0 ^ h1 ^ h2;
    p1 ^= p3 ^ (p3 << 1) ^ (p3 << 2) ^ (p3 << 7);
    p2 ^= (p3 >> 63) ^ (p3 >> 62) ^ (p3 >> 57);
    a[0] = p0 ^ p2 ^ (p2 << 1) ^ (p2 << 2) ^ (p2 << 7);
    a[1] = p1 ^ (p2 >> 63) ^ (p2 >> 62) ^ (p2 >> 57);
}

void poly_horner_portable(uint64_t *out, const uint64_t *state, const uint64_t *key, const uint8_t *blocks,
                          size_t n_blocks)
{
    const uint64_t k[2] = {qk_load64(key), qk_load64(key + 1)};
    uint64_t a[2] = {qk_load64(state), qk_load64(state + 1)};
    for (size_t i = 0; i < n_blocks; i++) {
        a[0] ^= qk_load64(blocks + 16 * i);
        a[1] ^= qk_load64(blocks + 16 * i + 8);
        multiply(a, k);
    }
    qk_store64(out, a[0]);
    qk_store64(out + 1, a[1]);
}

/* Toeplitz hash on 64-bit words: the definition of the tiers. */
#include "bits.h"
#include "clmul_portable.h"
#include "qk_target.h"
#include "tags.h"
#include "toeplitz.h"

typedef uint64_t V;
enum { LOG_VL = 0, VL = 1 };
#define TIER(name) name##_portable

QK_INLINE V v_load(const uint64_t *at) { return *at; }
QK_INLINE void v_store(uint64_t *at, V a) { *at = a; }
QK_INLINE V v_zero(void) { return 0; }
QK_INLINE V v_set1(uint64_t a) { return a; }
QK_INLINE V v_xor(V a, V b) { return a ^ b; }
QK_INLINE V v_low_halves(V a, V b) { return (a & UINT32_MAX) | b << 32; }
QK_INLINE V v_high_halves(V a, V b) { return a >> 32 | (b & ~(V)UINT32_MAX); }
QK_INLINE void v_turn(V r[VL]) { (void)r; }
QK_INLINE void v_product(V *high, V *low, V a, V b) { clmul_wide(high, low, a, b); }

/* Modulo x^64 + x^4 + x^3 + x + 1: the bits that the first fold pushes out are folded along with the rest. */
static V v_mul(V a, V b)
{
    V high, low;
    v_product(&high, &low, a, b);
    high ^= high >> 60 ^ high >> 61 ^ high >> 63;
    return low ^ high ^ high << 1 ^ high << 3 ^ high << 4;
}

#include "toeplitz_direct.inc.h"
#include "toeplitz_fft.inc.h"

#include "poly_tiers.h"

const struct qk_kernels qk_kernels_portable = {
    .name = "portable",
    .tags = &qk_tags_portable,
    .bits = &qk_bits_portable,
    .poly_horner = poly_horner_portable,
    .toeplitz_direct = toeplitz_direct_portable,
    .toeplitz_fft = toeplitz_fft_portable,
};

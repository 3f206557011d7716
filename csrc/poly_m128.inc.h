/* Horner's rule on 128-bit vectors: one element each. The tier's file defines HORNER. */

typedef __m128i P;

QK_INLINE P p_load(const void *at) { return _mm_loadu_si128(at); }
QK_INLINE P p_zero(void) { return _mm_setzero_si128(); }
QK_INLINE P p_set1(long long low) { return _mm_set_epi64x(0, low); }
QK_INLINE P p_xor(P a, P b) { return _mm_xor_si128(a, b); }
QK_INLINE P p_swap(P a) { return _mm_shuffle_epi32(a, 0x4e); }
QK_INLINE P p_clmul_00(P a, P b) { return _mm_clmulepi64_si128(a, b, 0x00); }
QK_INLINE P p_clmul_01(P a, P b) { return _mm_clmulepi64_si128(a, b, 0x01); }
QK_INLINE P p_clmul_11(P a, P b) { return _mm_clmulepi64_si128(a, b, 0x11); }
QK_INLINE P p_high_to_low(P a) { return _mm_srli_si128(a, 8); }
QK_INLINE P p_low_to_high(P a) { return _mm_slli_si128(a, 8); }

#include "poly_clmul.inc.h"

void HORNER(uint64_t *out, const uint64_t *state, const uint64_t *key, const uint8_t *blocks, size_t n_blocks)
{
    _mm_storeu_si128((__m128i *)out, horner_rows(p_load(state), as_factor(p_load(key)), blocks, n_blocks));
}

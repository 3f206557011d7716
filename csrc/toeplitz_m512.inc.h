/* Words in 512-bit vectors; the tier's file defines v_product and TIER before. */

QK_INLINE V v_load(const uint64_t *at) { return _mm512_loadu_si512(at); }
QK_INLINE void v_store(uint64_t *at, V a) { _mm512_storeu_si512(at, a); }
QK_INLINE V v_zero(void) { return _mm512_setzero_si512(); }
QK_INLINE V v_set1(uint64_t a) { return _mm512_set1_epi64((long long)a); }
QK_INLINE V v_xor(V a, V b) { return _mm512_xor_si512(a, b); }
QK_INLINE V v_xor3(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
QK_INLINE V v_low_halves(V a, V b) { return _mm512_mask_mov_epi32(a, 0xaaaa, _mm512_slli_epi64(b, 32)); }
QK_INLINE V v_high_halves(V a, V b) { return _mm512_mask_mov_epi32(_mm512_srli_epi64(a, 32), 0xaaaa, b); }

/* Modulo x^64 + x^4 + x^3 + x + 1: the bits that the first fold pushes out are folded along with the rest. */
QK_INLINE V v_mul(V a, V b)
{
    V high, low;
    v_product(&high, &low, a, b);
    high = v_xor(high,
                 v_xor3(_mm512_srli_epi64(high, 60), _mm512_srli_epi64(high, 61), _mm512_srli_epi64(high, 63)));
    low = v_xor3(low, high, _mm512_slli_epi64(high, 1));
    return v_xor3(low, _mm512_slli_epi64(high, 3), _mm512_slli_epi64(high, 4));
}

/* Columns 2k and 2k + 1 of the eight rows, given the units k of pairs of rows. */
QK_INLINE void turn_units(V out[VL], size_t first, V t0, V t2, V t4, V t6)
{
    const V even = _mm512_shuffle_i64x2(t0, t2, 0x88), odd = _mm512_shuffle_i64x2(t0, t2, 0xdd);
    const V even_next = _mm512_shuffle_i64x2(t4, t6, 0x88), odd_next = _mm512_shuffle_i64x2(t4, t6, 0xdd);
    out[first] = _mm512_shuffle_i64x2(even, even_next, 0x88);
    out[first + 2] = _mm512_shuffle_i64x2(odd, odd_next, 0x88);
    out[first + 4] = _mm512_shuffle_i64x2(even, even_next, 0xdd);
    out[first + 6] = _mm512_shuffle_i64x2(odd, odd_next, 0xdd);
}

/* Transposes eight rows of eight words. */
QK_INLINE void v_turn(V r[VL])
{
    const V t0 = _mm512_unpacklo_epi64(r[0], r[1]), t1 = _mm512_unpackhi_epi64(r[0], r[1]);
    const V t2 = _mm512_unpacklo_epi64(r[2], r[3]), t3 = _mm512_unpackhi_epi64(r[2], r[3]);
    const V t4 = _mm512_unpacklo_epi64(r[4], r[5]), t5 = _mm512_unpackhi_epi64(r[4], r[5]);
    const V t6 = _mm512_unpacklo_epi64(r[6], r[7]), t7 = _mm512_unpackhi_epi64(r[6], r[7]);
    turn_units(r, 0, t0, t2, t4, t6);
    turn_units(r, 1, t1, t3, t5, t7);
}

#include "toeplitz_direct.inc.h"
#include "toeplitz_fft.inc.h"

/* Horner's rule over GF(2^128) with VPCLMULQDQ: four elements to a vector. */
#include "poly_tiers.h"
#include "qk_target.h"

#if QK_X86
QK_BEGIN_AVX512_ICL

typedef __m512i P;

QK_INLINE P p_load(const void *at) { return _mm512_loadu_si512(at); }
QK_INLINE P p_zero(void) { return _mm512_setzero_si512(); }
QK_INLINE P p_set1(long long low) { return _mm512_broadcast_i64x2(_mm_set_epi64x(0, low)); }
QK_INLINE P p_xor(P a, P b) { return _mm512_xor_si512(a, b); }
QK_INLINE P p_swap(P a) { return _mm512_shuffle_epi32(a, 0x4e); }
QK_INLINE P p_clmul_00(P a, P b) { return _mm512_clmulepi64_epi128(a, b, 0x00); }
QK_INLINE P p_clmul_01(P a, P b) { return _mm512_clmulepi64_epi128(a, b, 0x01); }
QK_INLINE P p_clmul_11(P a, P b) { return _mm512_clmulepi64_epi128(a, b, 0x11); }
QK_INLINE P p_high_to_low(P a) { return _mm512_bsrli_epi128(a, 8); }
QK_INLINE P p_low_to_high(P a) { return _mm512_bslli_epi128(a, 8); }

#include "poly_clmul.inc.h"

enum { LANES = 4, BLOCK = 16 };

/* One element in the lowest lane. */
QK_INLINE P single(__m128i a) { return _mm512_zextsi128_si512(a); }

QK_INLINE __m128i multiply_one(__m128i a, __m128i b) { return _mm512_castsi512_si128(multiply(single(a), as_factor(single(b)))); }

QK_INLINE __m128i sum_of_lanes(P a)
{
    const __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* Blocks in rows of four; lane j ends with k^-j of what it is worth, which the last row of powers makes good. */
QK_INLINE __m128i horner_by_four(__m128i value, __m128i k, const uint8_t *blocks, size_t n_rows)
{
    const __m128i k2 = multiply_one(k, k), k3 = multiply_one(k2, k), k4 = multiply_one(k2, k2);
    const factor stride = as_factor(_mm512_broadcast_i64x2(k4));
    const P last = p_xor(_mm512_inserti64x2(single(k4), k3, 1),
                         _mm512_inserti64x2(_mm512_inserti64x2(p_zero(), k2, 2), k, 3));
    const size_t n_before = n_rows - 1;
    P lanes = horner_rows(single(value), stride, blocks, n_before);
    lanes = p_xor(lanes, p_load(blocks + n_before * sizeof(P)));
    return sum_of_lanes(multiply(lanes, as_factor(last)));
}

void poly_horner_avx512_icl(uint64_t *out, const uint64_t *state, const uint64_t *key, const uint8_t *blocks,
                            size_t n_blocks)
{
    __m128i value = _mm_loadu_si128((const __m128i *)state);
    const __m128i k = _mm_loadu_si128((const __m128i *)key);
    const size_t n_rows = n_blocks >= 4 * LANES ? n_blocks / LANES : 0;
    if (n_rows) {
        value = horner_by_four(value, k, blocks, n_rows);
    }
    for (size_t i = n_rows * LANES; i < n_blocks; i++) {
        const __m128i block = _mm_loadu_si128((const __m128i *)(blocks + i * BLOCK));
        value = multiply_one(_mm_xor_si128(value, block), k);
    }
    _mm_storeu_si128((__m128i *)out, value);
}

QK_END
#else
typedef int no_x86_here;
#endif

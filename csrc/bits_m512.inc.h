/* Bit tools with masks of AVX-512; the tier's file has opened its region. */

QK_INLINE uint64_t test64(const uint8_t *bytes, uint8_t mask)
{
    return _mm512_test_epi8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8((char)mask));
}

QK_INLINE void bytes64(uint8_t *bytes, const uint64_t *words, unsigned n)
{
    __m512i all = _mm512_setzero_si512();
    for (unsigned j = 0; j < n; j++) {
        all = _mm512_or_si512(all, _mm512_maskz_set1_epi8(words[j], (char)(1 << j)));
    }
    _mm512_storeu_si512(bytes, all);
}

QK_INLINE unsigned ones(uint64_t x) { return (unsigned)_mm_popcnt_u64(x); }

QK_INLINE uint64_t gather64(const uint64_t *words, const int32_t *order)
{
    uint64_t word = 0;
    for (int i = 0; i < 64; i += 16) {
        const __m512i at = _mm512_loadu_si512(order + i);
        const __m512i parts = _mm512_i32gather_epi32(_mm512_srli_epi32(at, 5), words, 4);
        const __m512i bit = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512(at, _mm512_set1_epi32(31)));
        word |= (uint64_t)_mm512_test_epi32_mask(parts, bit) << i;
    }
    return word;
}

#include "bits.inc.h"
#include "codec.inc.h"

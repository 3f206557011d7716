/* Bit tools with AVX2. */
#include "bits.h"
#include "qk_target.h"

#if QK_X86
QK_BEGIN_X86_V3

QK_INLINE uint32_t test32(const uint8_t *bytes, uint8_t mask)
{
    const __m256i set = _mm256_and_si256(_mm256_loadu_si256((const void *)bytes), _mm256_set1_epi8((char)mask));
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(set, _mm256_setzero_si256()));
}

QK_INLINE uint64_t test64(const uint8_t *bytes, uint8_t mask)
{
    return test32(bytes, mask) | (uint64_t)test32(bytes + 32, mask) << 32;
}

QK_INLINE void bytes64(uint8_t *bytes, const uint64_t *words, unsigned n)
{
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    __m256i low = _mm256_setzero_si256(), high = low;
    for (unsigned j = 0; j < n; j++) {
        const __m256i value = _mm256_set1_epi8((char)(1 << j));
        const __m256i a = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(uint32_t)words[j]), spread);
        const __m256i b = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(uint32_t)(words[j] >> 32)), spread);
        const __m256i in_a = _mm256_cmpeq_epi8(_mm256_and_si256(a, bit), bit);
        const __m256i in_b = _mm256_cmpeq_epi8(_mm256_and_si256(b, bit), bit);
        low = _mm256_or_si256(low, _mm256_and_si256(in_a, value));
        high = _mm256_or_si256(high, _mm256_and_si256(in_b, value));
    }
    _mm256_storeu_si256((void *)bytes, low);
    _mm256_storeu_si256((void *)(bytes + 32), high);
}

QK_INLINE unsigned ones(uint64_t x) { return (unsigned)_mm_popcnt_u64(x); }

/* Eight bits at a time, each shifted to the sign of its lane. */
QK_INLINE uint64_t gather64(const uint64_t *words, const int32_t *order)
{
    uint64_t word = 0;
    for (int i = 0; i < 64; i += 8) {
        const __m256i at = _mm256_loadu_si256((const void *)(order + i));
        const __m256i parts = _mm256_i32gather_epi32((const void *)words, _mm256_srli_epi32(at, 5), 4);
        const __m256i up = _mm256_sllv_epi32(parts, _mm256_andnot_si256(at, _mm256_set1_epi32(31)));
        word |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(up)) << i;
    }
    return word;
}

#include "bits.inc.h"
#include "codec.inc.h"

QK_END

const struct qk_bits qk_bits_x86_v3 = {pack, unpack, gather, transpose, distance, encode, decode};
#else
typedef int no_x86_here;
#endif

/* Hamming checks with AVX2 and BMI2. */
#include "hamming.h"

#if QK_X86
QK_BEGIN_X86_V3
#define TIER(name) name##_x86_v3

typedef __m256i V;
#define VL 4

QK_INLINE V v_load(const uint64_t *at) { return _mm256_loadu_si256((const __m256i *)at); }
QK_INLINE void v_store(uint64_t *at, V a) { _mm256_storeu_si256((__m256i *)at, a); }
QK_INLINE V v_xor(V a, V b) { return _mm256_xor_si256(a, b); }

QK_INLINE V v_turned(const uint64_t *rows, const uint32_t *order)
{
    const __m128i entries = _mm_loadu_si128((const __m128i *)order);
    const V x = _mm256_i32gather_epi64((const long long *)rows, _mm_srli_epi32(entries, 6), 8);
    const V left = _mm256_and_si256(_mm256_cvtepu32_epi64(entries), _mm256_set1_epi64x(63));
    const V right = _mm256_sub_epi64(_mm256_set1_epi64x(64), left); /* 64 gives zero */
    return _mm256_or_si256(_mm256_sllv_epi64(x, left), _mm256_srlv_epi64(x, right));
}

#include "hamming_bmi2.inc.h"
#include "hamming.inc.h"
QK_END
#else
typedef int no_x86_here;
#endif

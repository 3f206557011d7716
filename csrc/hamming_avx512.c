/* Hamming checks with AVX-512 and BMI2. */
#include "hamming.h"

#if QK_X86
QK_BEGIN_AVX512
#define TIER(name) name##_avx512

typedef __m512i V;
#define VL 8

QK_INLINE V v_load(const uint64_t *at) { return _mm512_loadu_si512(at); }
QK_INLINE void v_store(uint64_t *at, V a) { _mm512_storeu_si512(at, a); }
QK_INLINE V v_xor(V a, V b) { return _mm512_xor_si512(a, b); }

QK_INLINE V v_turned(const uint64_t *rows, const uint32_t *order)
{
    const __m256i entries = _mm256_loadu_si256((const __m256i *)order);
    const V x = _mm512_i32gather_epi64(_mm256_srli_epi32(entries, 6), (const long long *)rows, 8);
    return _mm512_rolv_epi64(x, _mm512_cvtepu32_epi64(entries)); /* counts modulo 64 */
}

#include "hamming_bmi2.inc.h"
#include "hamming.inc.h"
QK_END
#else
typedef int no_x86_here;
#endif

/* Toeplitz hash with AVX-512 and 128-bit PCLMULQDQ. */
#include "bits.h"
#include "poly_tiers.h"
#include "qk_target.h"
#include "tags.h"
#include "toeplitz.h"

#if QK_X86
QK_BEGIN_AVX512

typedef __m512i V;
enum { LOG_VL = 3, VL = 8 };
#define TIER(name) name##_avx512

QK_INLINE V join(__m128i a0, __m128i a1, __m128i a2, __m128i a3)
{
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a0), a1, 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(a2), a3, 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

QK_INLINE void v_product(V *high, V *low, V a, V b)
{
    const __m128i a0 = _mm512_castsi512_si128(a), b0 = _mm512_castsi512_si128(b);
    const __m128i a1 = _mm512_extracti64x2_epi64(a, 1), b1 = _mm512_extracti64x2_epi64(b, 1);
    const __m128i a2 = _mm512_extracti64x2_epi64(a, 2), b2 = _mm512_extracti64x2_epi64(b, 2);
    const __m128i a3 = _mm512_extracti64x2_epi64(a, 3), b3 = _mm512_extracti64x2_epi64(b, 3);
    const V even = join(_mm_clmulepi64_si128(a0, b0, 0x00), _mm_clmulepi64_si128(a1, b1, 0x00),
                        _mm_clmulepi64_si128(a2, b2, 0x00), _mm_clmulepi64_si128(a3, b3, 0x00));
    const V odd = join(_mm_clmulepi64_si128(a0, b0, 0x11), _mm_clmulepi64_si128(a1, b1, 0x11),
                       _mm_clmulepi64_si128(a2, b2, 0x11), _mm_clmulepi64_si128(a3, b3, 0x11));
    *high = _mm512_unpackhi_epi64(even, odd);
    *low = _mm512_unpacklo_epi64(even, odd);
}

#include "toeplitz_m512.inc.h"

QK_END

const struct qk_kernels qk_kernels_avx512 = {
    .name = "avx512",
    .tags = &qk_tags_avx512,
    .bits = &qk_bits_avx512,
    .poly_horner = poly_horner_avx512,
    .toeplitz_direct = toeplitz_direct_avx512,
    .toeplitz_fft = toeplitz_fft_avx512,
};
#else
typedef int no_x86_here;
#endif

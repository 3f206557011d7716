/* Toeplitz hash with AVX-512 and VPCLMULQDQ. */
#include "bits.h"
#include "poly_tiers.h"
#include "qk_target.h"
#include "tags.h"
#include "toeplitz.h"

#if QK_X86
QK_BEGIN_AVX512_ICL

typedef __m512i V;
enum { LOG_VL = 3, VL = 8 };
#define TIER(name) name##_avx512_icl

QK_INLINE void v_product(V *high, V *low, V a, V b)
{
    const V even = _mm512_clmulepi64_epi128(a, b, 0x00), odd = _mm512_clmulepi64_epi128(a, b, 0x11);
    *high = _mm512_unpackhi_epi64(even, odd);
    *low = _mm512_unpacklo_epi64(even, odd);
}

#include "toeplitz_m512.inc.h"

QK_END

const struct qk_kernels qk_kernels_avx512_icl = {
    .name = "avx512_icl",
    .tags = &qk_tags_avx512,
    .bits = &qk_bits_avx512_icl,
    .poly_horner = poly_horner_avx512_icl,
    .toeplitz_direct = toeplitz_direct_avx512_icl,
    .toeplitz_fft = toeplitz_fft_avx512_icl,
};
#else
typedef int no_x86_here;
#endif

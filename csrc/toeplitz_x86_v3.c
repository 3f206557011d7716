/* Toeplitz hash with AVX2 and 128-bit PCLMULQDQ. */
#include "bits.h"
#include "poly_tiers.h"
#include "qk_target.h"
#include "tags.h"
#include "toeplitz.h"

#if QK_X86
QK_BEGIN_X86_V3

typedef __m256i V;
enum { LOG_VL = 2, VL = 4 };
#define TIER(name) name##_x86_v3

QK_INLINE V v_load(const uint64_t *at) { return _mm256_loadu_si256((const __m256i *)at); }
QK_INLINE void v_store(uint64_t *at, V a) { _mm256_storeu_si256((__m256i *)at, a); }
QK_INLINE V v_zero(void) { return _mm256_setzero_si256(); }
QK_INLINE V v_set1(uint64_t a) { return _mm256_set1_epi64x((long long)a); }
QK_INLINE V v_xor(V a, V b) { return _mm256_xor_si256(a, b); }
QK_INLINE V v_low_halves(V a, V b) { return _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xaa); }
QK_INLINE V v_high_halves(V a, V b) { return _mm256_blend_epi32(_mm256_srli_epi64(a, 32), b, 0xaa); }

QK_INLINE void v_product(V *high, V *low, V a, V b)
{
    const __m128i a0 = _mm256_castsi256_si128(a), a1 = _mm256_extracti128_si256(a, 1);
    const __m128i b0 = _mm256_castsi256_si128(b), b1 = _mm256_extracti128_si256(b, 1);
    const V even = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_clmulepi64_si128(a0, b0, 0x00)),
                                           _mm_clmulepi64_si128(a1, b1, 0x00), 1);
    const V odd = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_clmulepi64_si128(a0, b0, 0x11)),
                                          _mm_clmulepi64_si128(a1, b1, 0x11), 1);
    *high = _mm256_unpackhi_epi64(even, odd);
    *low = _mm256_unpacklo_epi64(even, odd);
}

/* Modulo x^64 + x^4 + x^3 + x + 1: the bits that the first fold pushes out are folded along with the rest. */
QK_INLINE V v_mul(V a, V b)
{
    V high, low;
    v_product(&high, &low, a, b);
    const V out = v_xor(v_xor(_mm256_srli_epi64(high, 60), _mm256_srli_epi64(high, 61)), _mm256_srli_epi64(high, 63));
    high = v_xor(high, out);
    low = v_xor(v_xor(low, high), _mm256_slli_epi64(high, 1));
    return v_xor(low, v_xor(_mm256_slli_epi64(high, 3), _mm256_slli_epi64(high, 4)));
}

/* Transposes four rows of four words. */
QK_INLINE void v_turn(V r[VL])
{
    const V t0 = _mm256_unpacklo_epi64(r[0], r[1]), t1 = _mm256_unpackhi_epi64(r[0], r[1]);
    const V t2 = _mm256_unpacklo_epi64(r[2], r[3]), t3 = _mm256_unpackhi_epi64(r[2], r[3]);
    r[0] = _mm256_permute2x128_si256(t0, t2, 0x20);
    r[1] = _mm256_permute2x128_si256(t1, t3, 0x20);
    r[2] = _mm256_permute2x128_si256(t0, t2, 0x31);
    r[3] = _mm256_permute2x128_si256(t1, t3, 0x31);
}

#include "toeplitz_direct.inc.h"
#include "toeplitz_fft.inc.h"

QK_END

const struct qk_kernels qk_kernels_x86_v3 = {
    .name = "x86_v3",
    .tags = &qk_tags_x86_v3,
    .bits = &qk_bits_x86_v3,
    .poly_horner = poly_horner_x86_v3,
    .toeplitz_direct = toeplitz_direct_x86_v3,
    .toeplitz_fft = toeplitz_fft_x86_v3,
};
#else
typedef int no_x86_here;
#endif

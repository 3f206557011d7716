/* Time tags with AVX2: eight records at once. */
#include "qk_target.h"
#include "tags.h"

#if QK_X86
QK_BEGIN_X86_V3

#define T2_LANES 8

QK_INLINE struct t2_step t2_lanes(int64_t *time, uint8_t *ids, const uint8_t *words, uint64_t base, uint64_t wrap,
                                  const int picoharp, const int counted)
{
    (void)wrap, (void)counted;
    const __m256i word = _mm256_loadu_si256((const __m256i *)(const void *)words);
    const __m256i from = _mm256_set1_epi64x((int64_t)base);
    const __m256i channel = picoharp ? _mm256_srli_epi32(word, 28) : _mm256_srli_epi32(word, 25);
    const __m256i special = picoharp ? _mm256_cmpeq_epi32(channel, _mm256_set1_epi32(15)) : word;
    const __m256i offset = _mm256_and_si256(word, _mm256_set1_epi32(picoharp ? 0xFFFFFFF : 0x1FFFFFF));
    const __m256i low = _mm256_cvtepu32_epi64(_mm256_castsi256_si128(offset));
    const __m256i high = _mm256_cvtepu32_epi64(_mm256_extracti128_si256(offset, 1));
    _mm256_storeu_si256((__m256i *)(void *)time, _mm256_add_epi64(low, from));
    _mm256_storeu_si256((__m256i *)(void *)(time + 4), _mm256_add_epi64(high, from));
    const __m256i id = _mm256_add_epi32(channel, _mm256_set1_epi32(1));
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(id), _mm256_extracti128_si256(id, 1));
    _mm_storel_epi64((__m128i *)(void *)ids, _mm_packus_epi16(halves, halves));
    const uint32_t others = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(special));
    const size_t n_photons = others ? (size_t)__builtin_ctz(others) : T2_LANES;
    return (struct t2_step){.n_words = n_photons, .n_tags = n_photons};
}

#include "tags_t2.inc.h"
#include "tags_order.inc.h"

QK_INLINE double gate_floor(double x) { return __builtin_floor(x); }
QK_INLINE int64_t gate_whole(double x) { return _mm_cvttsd_si64(_mm_set_sd(x)); }

#include "tags_place.inc.h"
#include "tags_relabel.inc.h"

QK_END

const struct qk_tags qk_tags_x86_v3 = {
    .t2 = t2_decode, .backward = backward, .relabel = relabel, .place = place, .add_scores = add_scores};
#else
typedef int no_x86_here;
#endif

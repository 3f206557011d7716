/* Time tags with AVX-512: sixteen records at once. */
#include "qk_target.h"
#include "tags.h"

#if QK_X86
QK_BEGIN_AVX512

#define T2_LANES 16

QK_INLINE uint32_t t2_lanes(int64_t *time, uint8_t *ids, const uint8_t *words, uint64_t base, const int picoharp)
{
    const __m512i word = _mm512_loadu_si512(words);
    const __m512i from = _mm512_set1_epi64((int64_t)base);
    const __m512i channel = picoharp ? _mm512_srli_epi32(word, 28) : _mm512_srli_epi32(word, 25);
    const __m512i offset = _mm512_and_si512(word, _mm512_set1_epi32(picoharp ? 0xFFFFFFF : 0x1FFFFFF));
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(offset));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(offset, 1));
    _mm512_storeu_si512(time, _mm512_add_epi64(low, from));
    _mm512_storeu_si512(time + 8, _mm512_add_epi64(high, from));
    const __m512i id = _mm512_add_epi32(channel, _mm512_set1_epi32(1));
    _mm_storeu_si128((__m128i *)(void *)ids, _mm512_cvtepi32_epi8(id));
    return picoharp ? _mm512_cmpeq_epi32_mask(channel, _mm512_set1_epi32(15)) : _mm512_movepi32_mask(word);
}

#include "tags_t2.inc.h"
#include "tags_order.inc.h"

QK_INLINE __m512d floor_of(__m512d x)
{
    return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* Eight clicks at once, by the same operations in the same order as tags_place.inc.h. */
static void place(struct gate_step *step, const int64_t *times, size_t n, int64_t before, const struct gate_line *line)
{
    const __m512d half = _mm512_set1_pd(0.5), bins = _mm512_set1_pd(line->bins);
    const __m512d last_bin = _mm512_set1_pd(line->bins - 1.0), half_gate = _mm512_set1_pd(line->half_gate);
    const __m512d fraction = _mm512_set1_pd(line->knot_fraction), slope = _mm512_set1_pd(line->slots_per_tick);
    __m512i previous = _mm512_set1_epi64(before);
    size_t n_ahead = 0, n_counts = 0;
    for (size_t i = 0; i < n; i += 8) {
        const __mmask8 here = (__mmask8)(n - i < 8 ? (1U << (n - i)) - 1 : 0xFFU);
        const __m512i time = _mm512_maskz_loadu_epi64(here, times + i);
        const __m512d ticks = _mm512_sub_pd(_mm512_cvtepi64_pd(_mm512_sub_epi64(time, _mm512_set1_epi64(line->knot_tick))),
                                            _mm512_loadu_pd(step->part + i));
        const __m512d position = _mm512_add_pd(fraction, _mm512_mul_pd(ticks, slope));
        const __m512d raw = _mm512_sub_pd(position, floor_of(_mm512_add_pd(position, half)));
        const __m512d bin = _mm512_min_pd(_mm512_mul_pd(_mm512_add_pd(raw, half), bins), last_bin);
        const __m512d shifted = _mm512_sub_pd(position, _mm512_set1_pd(line->offset));
        const __m512d whole = floor_of(_mm512_add_pd(shifted, half));
        const __m512d away = _mm512_abs_pd(_mm512_sub_pd(shifted, whole));
        const __m512i slot = _mm512_add_epi64(_mm512_set1_epi64(line->knot_slot), _mm512_cvttpd_epi64(whole));
        const __mmask8 ahead = here & (__mmask8)~_mm512_movepi64_mask(slot);
        const __mmask8 counts = ahead & _mm512_cmp_pd_mask(away, half_gate, _CMP_LE_OQ);
        const __m512i since = _mm512_sub_epi64(time, _mm512_alignr_epi64(time, previous, 7));
        const __mmask8 live = _mm512_cmpge_epi64_mask(since, _mm512_set1_epi64(line->dead_ticks));
        _mm512_storeu_si512(step->bin + i, _mm512_cvttpd_epi64(bin));
        _mm512_storeu_si512(step->slot + i, slot);
        _mm_storel_epi64((__m128i *)(void *)(step->counts + i), _mm_maskz_set1_epi8(counts, 1));
        _mm_storel_epi64((__m128i *)(void *)(step->live + i), _mm_maskz_set1_epi8(live, 1));
        n_ahead += (size_t)__builtin_popcount(ahead);
        n_counts += (size_t)__builtin_popcount(counts);
        previous = time;
    }
    step->n_ahead = n_ahead;
    step->n_counts = n_counts;
}
#include "tags_relabel.inc.h"

QK_END

const struct qk_tags qk_tags_avx512 = {.t2 = t2_decode, .backward = backward, .relabel = relabel, .place = place};
#else
typedef int no_x86_here;
#endif

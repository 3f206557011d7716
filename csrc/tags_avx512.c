/* Time tags with AVX-512: sixteen records at once. */
#include "qk_target.h"
#include "tags.h"

#if QK_X86
QK_BEGIN_AVX512

#define T2_LANES 16

/* Sums of each lane and those below it. */
QK_INLINE __m512i t2_sums(__m512i x)
{
    const __m512i none = _mm512_setzero_si512();
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 15));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 14));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 12));
    return _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 8));
}

QK_INLINE void t2_store(int64_t *time, uint8_t *ids, __m512i word, __m512i low, __m512i high, const int picoharp)
{
    const __m512i channel = picoharp ? _mm512_srli_epi32(word, 28) : _mm512_srli_epi32(word, 25);
    const __m512i offset = _mm512_and_si512(word, _mm512_set1_epi32(picoharp ? 0xFFFFFFF : 0x1FFFFFF));
    const __mmask16 not_sync = picoharp ? (__mmask16)0xFFFF : _mm512_cmpneq_epi32_mask(channel, _mm512_set1_epi32(64));
    const __m512i id = _mm512_maskz_add_epi32(not_sync, channel, _mm512_set1_epi32(1));
    _mm512_storeu_si512(time, _mm512_add_epi64(low, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(offset))));
    _mm512_storeu_si512(time + 8, _mm512_add_epi64(high, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(offset, 1))));
    _mm_storeu_si128((__m128i *)(void *)ids, _mm512_cvtepi32_epi8(id));
}

/* Overflows come every few tags and cannot be foreseen, so nothing branches on one of them; two in a group are rare, or
 * the rule. */
QK_INLINE struct t2_step t2_lanes(int64_t *time, uint8_t *ids, const uint8_t *words, uint64_t base, uint64_t wrap,
                                  const int picoharp, const int counted)
{
    const __m512i word = _mm512_loadu_si512(words), one = _mm512_set1_epi32(1);
    const __m512i offset_mask = _mm512_set1_epi32(picoharp ? 0xFFFFFFF : 0x1FFFFFF);
    const __m512i from = _mm512_set1_epi64((int64_t)base);
    const uint32_t overflow =
        picoharp ? _mm512_mask_testn_epi32_mask(_mm512_cmpge_epu32_mask(word, _mm512_set1_epi32((int)0xF0000000)), word,
                                                _mm512_set1_epi32(15))
                 : _mm512_cmpge_epu32_mask(word, _mm512_set1_epi32((int)0xFE000000));
    const uint32_t special = picoharp ? _mm512_cmpge_epu32_mask(word, _mm512_set1_epi32((int)0xF0000000))
                                      : _mm512_cmpge_epu32_mask(word, _mm512_set1_epi32((int)0x82000000));
    const uint32_t others = special & ~overflow;
    if (!(others | (overflow & (overflow - 1)))) {
        const uint32_t at = (uint32_t)__builtin_ctz(overflow | 1U << 16), behind = 0xFFFFU << at;
        const uint32_t count = qk_load32(words + 4 * (at & 15)) & (picoharp ? 0xFFFFFFF : 0x1FFFFFF);
        const uint32_t some = (overflow + 0xFFFF) >> 16;
        const uint64_t counts = (counted ? count + (count == 0) : 1) & (0 - some);
        const __m512i more = _mm512_set1_epi64((int64_t)(counts * wrap));
        t2_store(time, ids, _mm512_maskz_compress_epi32((__mmask16)~overflow, word),
                 _mm512_mask_add_epi64(from, (__mmask8)behind, from, more),
                 _mm512_mask_add_epi64(from, (__mmask8)(behind >> 8), from, more), picoharp);
        return (struct t2_step){.n_words = T2_LANES, .n_tags = T2_LANES - some, .overflows = counts};
    }
    const uint32_t plain = ((others & (0 - others)) - 1) & 0xFFFF, tags = plain & ~overflow;
    const __m512i count = counted ? _mm512_max_epu32(_mm512_and_si512(word, offset_mask), one) : one;
    const __m512i sums = t2_sums(_mm512_maskz_mov_epi32((__mmask16)(overflow & plain), count));
    const __m512i sum = _mm512_maskz_compress_epi32((__mmask16)tags, sums), factor = _mm512_set1_epi64((int64_t)wrap);
    const __m512i low = _mm512_mul_epu32(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(sum)), factor);
    const __m512i high = _mm512_mul_epu32(_mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sum, 1)), factor);
    t2_store(time, ids, _mm512_maskz_compress_epi32((__mmask16)tags, word), _mm512_add_epi64(from, low),
             _mm512_add_epi64(from, high), picoharp);
    return (struct t2_step){
        .n_words = (size_t)__builtin_popcount(plain),
        .n_tags = (size_t)__builtin_popcount(tags),
        .overflows = (uint64_t)_mm_cvtsi128_si32(_mm_shuffle_epi32(_mm512_extracti32x4_epi32(sums, 3), 0xFF)),
    };
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

const struct qk_tags qk_tags_avx512 = {
    .t2 = t2_decode, .backward = backward, .relabel = relabel, .place = place, .add_scores = add_scores};
#else
typedef int no_x86_here;
#endif

/* Cascade with AVX-512: eight nodes at a time where all are halved. */
#include <math.h>
#include "cascade.h"

#if QK_X86
QK_BEGIN_AVX512
#define TIER(name) name##_avx512
#include "cascade_bits.inc.h"
#include "cascade_stream.inc.h"
#include "cascade_load.inc.h"
#include "cascade_ask.inc.h"

/* Eight nodes, each a lane: begin and end, key, what is open, cuts. */
struct eight {
    __m512i ends, key, open, cuts;
};

/* The fields of four nodes, then of eight. The same back. */
QK_INLINE void fields_of(struct eight *x, const struct entry *e)
{
    const __m512i low = _mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13);
    const __m512i high = _mm512_setr_epi64(2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i a = _mm512_loadu_si512(e), b = _mm512_loadu_si512(e + 2);
    const __m512i c = _mm512_loadu_si512(e + 4), d = _mm512_loadu_si512(e + 6);
    const __m512i ab = _mm512_permutex2var_epi64(a, low, b), cd = _mm512_permutex2var_epi64(c, low, d);
    const __m512i ef = _mm512_permutex2var_epi64(a, high, b), gh = _mm512_permutex2var_epi64(c, high, d);
    x->ends = _mm512_shuffle_i64x2(ab, cd, 0x44);
    x->key = _mm512_shuffle_i64x2(ab, cd, 0xee);
    x->open = _mm512_shuffle_i64x2(ef, gh, 0x44);
    x->cuts = _mm512_shuffle_i64x2(ef, gh, 0xee);
}

QK_INLINE void put_fields(struct entry *e, const struct eight *x)
{
    const __m512i first = _mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13);
    const __m512i second = _mm512_setr_epi64(2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i ab = _mm512_shuffle_i64x2(x->ends, x->key, 0x44), cd = _mm512_shuffle_i64x2(x->ends, x->key, 0xee);
    const __m512i ef = _mm512_shuffle_i64x2(x->open, x->cuts, 0x44), gh = _mm512_shuffle_i64x2(x->open, x->cuts, 0xee);
    _mm512_storeu_si512(e, _mm512_permutex2var_epi64(ab, first, ef));
    _mm512_storeu_si512(e + 2, _mm512_permutex2var_epi64(ab, second, ef));
    _mm512_storeu_si512(e + 4, _mm512_permutex2var_epi64(cd, first, gh));
    _mm512_storeu_si512(e + 6, _mm512_permutex2var_epi64(cd, second, gh));
}

/* Half the lengths; zero unless all are powers of two above the limit, up to 64. */
QK_INLINE int halves_of(const struct eight *x, int32_t limit, __m512i *half)
{
    const __m512i one = _mm512_set1_epi64(1), lo = _mm512_and_si512(x->ends, _mm512_set1_epi64(0xffffffff));
    const __m512i length = _mm512_sub_epi64(_mm512_srli_epi64(x->ends, 32), lo);
    *half = _mm512_srli_epi64(length, 1);
    return !(_mm512_test_epi64_mask(length, _mm512_sub_epi64(length, one)) |
             _mm512_cmple_epi64_mask(length, _mm512_set1_epi64(limit)) |
             _mm512_cmpgt_epi64_mask(length, _mm512_set1_epi64(64)));
}

QK_INLINE int long_enough(const struct entry *e, int32_t limit) { return e->hi - e->lo > limit && e->hi - e->lo <= 64; }

/* Asks for halves of eight nodes; 0 if any must be treated by itself. */
QK_INLINE int ask_eight(struct sink *s, const struct entry *e, int32_t limit)
{
    if (!long_enough(e, limit) || !long_enough(e + 7, limit)) {
        return 0;
    }
    struct eight x;
    __m512i half;
    fields_of(&x, e);
    if (!halves_of(&x, limit, &half)) {
        return 0;
    }
    const __m512i one = _mm512_set1_epi64(1), left = _mm512_sub_epi64(_mm512_sllv_epi64(one, half), one);
    const __m512i right = _mm512_sllv_epi64(left, half);
    if ((_mm512_test_epi64_mask(x.open, left) & _mm512_test_epi64_mask(x.open, right)) != 0xff) {
        return 0;
    }
    __m512i sum = _mm512_and_si512(x.key, left);
    sum = _mm512_xor_si512(sum, _mm512_srli_epi64(sum, 16));
    sum = _mm512_xor_si512(sum, _mm512_srli_epi64(sum, 8));
    sum = _mm512_xor_si512(sum, _mm512_srli_epi64(sum, 4));
    sum = _mm512_xor_si512(sum, _mm512_srli_epi64(sum, 2));
    sum = _mm512_xor_si512(sum, _mm512_srli_epi64(sum, 1));
    put_bits(s, _mm512_test_epi64_mask(sum, one), 8);
    memcpy(s->entries + s->n, e, 8 * sizeof *e);
    s->n += 8;
    return 1;
}

/* Takes the halves that are odd; 0 if any node must be treated by itself. */
QK_INLINE int tell_eight(struct source *s, struct entry *to, const struct entry *e, int32_t limit)
{
    if (!long_enough(e, limit) || !long_enough(e + 7, limit)) {
        return 0;
    }
    struct eight x;
    __m512i half;
    fields_of(&x, e);
    if (!halves_of(&x, limit, &half)) {
        return 0;
    }
    const __mmask8 second = (__mmask8)~take_bits(s, 8);
    const __m512i one = _mm512_set1_epi64(1), left = _mm512_sub_epi64(_mm512_sllv_epi64(one, half), one);
    const __m512i mid = _mm512_add_epi64(x.ends, half), shift = _mm512_maskz_mov_epi64(second, half);
    const __m512i at = _mm512_and_si512(mid, _mm512_set1_epi64(63));
    x.cuts = _mm512_or_si512(x.cuts, _mm512_sllv_epi64(one, at));
    x.key = _mm512_and_si512(_mm512_srlv_epi64(x.key, shift), left);
    x.open = _mm512_and_si512(_mm512_srlv_epi64(x.open, shift), left);
    /* the begin moves up by half, or the end down */
    x.ends = _mm512_mask_blend_epi64(second, _mm512_sub_epi64(x.ends, _mm512_slli_epi64(half, 32)), mid);
    put_fields(to, &x);
    return 1;
}

#include "cascade_nodes.inc.h"
#include "cascade_settle.inc.h"
#include "cascade_plan.inc.h"
#include "cascade_tell.inc.h"
#include "cascade_round.inc.h"
QK_END
#else
typedef int no_x86_here;
#endif

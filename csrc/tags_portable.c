/* Time tags, one by one: the definition of the tiers. */
#include "qk_target.h"
#include "tags.h"

#define T2_LANES 0
#include "tags_t2.inc.h"
#include "tags_order.inc.h"

/* x to the next whole number below. What is too large for a fraction, or no number, stays. */
QK_INLINE double gate_floor(double x)
{
    if (!(x > -4503599627370496.0 && x < 4503599627370496.0)) {
        return x;
    }
    const double whole = (double)(int64_t)x;
    return whole > x ? whole - 1.0 : whole;
}

QK_INLINE int64_t gate_whole(double x)
{
    return x >= -9223372036854775808.0 && x < 9223372036854775808.0 ? (int64_t)x : INT64_MIN;
}

#include "tags_place.inc.h"

static uint8_t relabel(uint8_t *bytes, size_t n, const uint8_t *table)
{
    uint8_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t label = table[bytes[i]];
        bytes[i] = label;
        largest = label > largest ? label : largest;
    }
    return largest;
}

const struct qk_tags qk_tags_portable = {
    .t2 = t2_decode, .backward = backward, .relabel = relabel, .place = place, .add_scores = add_scores};

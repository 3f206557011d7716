/* Clicks against a known string, for every shift: each click adds a row of the string's scores. */
#include "tags.h"

enum { N_ROWS = 4 };

int qk_correlate(int32_t *total, size_t n_shifts, const int64_t *at, const uint8_t *row, size_t n, const int8_t *scores,
                 size_t length)
{
    const struct qk_tags *const tier = qk_active()->tags;
    for (size_t i = 0; i < n; i++) {
        const int64_t first = tags_load(at + i);
        if (row[i] >= N_ROWS) {
            return QK_BAD_SIZE;
        }
        const uint64_t skip = first < 0 ? 0 - (uint64_t)first : 0, start = first < 0 ? 0 : (uint64_t)first;
        if (skip < length && start < n_shifts) {
            const size_t left = length - (size_t)skip, room = n_shifts - (size_t)start;
            tier->add_scores(total + start, scores + row[i] * length + skip, left < room ? left : room);
        }
    }
    return QK_OK;
}

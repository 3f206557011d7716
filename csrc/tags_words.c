/* 64-bit event words: a wrapping time above, a label in the lowest five bits. */
#include "tags.h"

enum { N_PATTERNS = 32, PATTERN = 31, WAYS = 2, AT_ONCE = 1 << 20 };

/* Words from *i on as long as the time does not jump, at most up to end; returns the last time. */
static uint64_t plain_words(int64_t *time, uint8_t *ids, size_t *n_tags, size_t *i, size_t end, uint64_t last,
                            uint64_t base, uint32_t counts[WAYS][N_PATTERNS], const uint8_t *words, int shift,
                            const uint8_t *table)
{
    const uint64_t half = (uint64_t)1 << (63 - shift);
    size_t n = *n_tags, k = *i;
    for (; k < end; k++) {
        const uint64_t word = qk_load64(words + 8 * k), now = word >> shift;
        if (now - last + half > 2 * half) {
            break;
        }
        const size_t pattern = word & PATTERN;
        counts[k % WAYS][pattern]++;
        tags_store(time + n, (int64_t)(base + now));
        ids[n] = table[pattern];
        n += table[pattern] != QK_NO_LABEL;
        last = now;
    }
    *n_tags = n;
    *i = k;
    return last;
}

int qk_words_decode(int64_t *time, uint8_t *ids, uint64_t *counts, uint64_t *state, const uint8_t *words, size_t n,
                    int shift, const uint8_t *table)
{
    if (shift < 5 || shift > 40) {
        return QK_BAD_SIZE;
    }
    const uint64_t span = (uint64_t)1 << (64 - shift), most_wraps = (uint64_t)1 << (shift - 2);
    uint64_t wraps = qk_load64(state), last = qk_load64(state + 1);
    uint64_t total[N_PATTERNS] = {0};
    size_t n_tags = 0;
    for (size_t i = 0; i < n;) {
        uint32_t ways[WAYS][N_PATTERNS] = {{0}};
        const size_t end = n - i < AT_ONCE ? n : i + AT_ONCE;
        while (i < end) {
            last = plain_words(time, ids, &n_tags, &i, end, last, wraps * span, ways, words, shift, table);
            if (i < end) {
                const uint64_t now = qk_load64(words + 8 * i) >> shift;
                wraps = now < last ? wraps + 1 : wraps - (wraps > 0);
                if (wraps >= most_wraps) {
                    return QK_NO_ROOM;
                }
                last = now;
            }
        }
        for (size_t k = 0; k < N_PATTERNS; k++) {
            total[k] += (uint64_t)ways[0][k] + ways[1][k];
        }
    }
    memcpy(counts, total, sizeof total);
    qk_store64(state, wraps);
    qk_store64(state + 1, last);
    qk_store64(state + 2, n_tags);
    return QK_OK;
}

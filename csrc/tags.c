/* Time tags: decoding, order, labels, coincidences, merging. */
#include "tags.h"

enum { T2_AT_ONCE = 1 << 12 };

int qk_t2_decode(int64_t *time, uint8_t *ids, size_t capacity, uint64_t *state, const uint8_t *words, size_t n_words,
                 uint64_t wrap, int family)
{
    const struct qk_tags *const tier = qk_active()->tags;
    struct t2_run run = {.time = time, .ids = ids, .capacity = capacity, .words = words, .wrap = wrap, .family = family,
                         .overflows = qk_load64(state)};
    uint64_t n_backward = 0;
    if (family < 0 || family >= QK_T2_FAMILIES || wrap > UINT32_MAX) {
        return QK_BAD_SIZE;
    }
    size_t n_read = 0;
    do {
        const size_t n_before = run.n_tags ? run.n_tags - 1 : 0;
        n_read = run.n_read;
        run.n_words = n_words - n_read < T2_AT_ONCE ? n_words : n_read + T2_AT_ONCE;
        tier->t2(&run);
        n_backward += tier->backward(time + n_before, run.n_tags - n_before);
    } while (run.n_read == run.n_words && run.n_words < n_words && run.n_read > n_read);
    qk_store64(state, run.overflows);
    qk_store64(state + 1, run.n_tags);
    qk_store64(state + 2, run.n_read);
    qk_store64(state + 3, qk_load64(state + 3) + run.meaningless);
    qk_store64(state + 4, qk_load64(state + 4) + n_backward);
    return QK_OK;
}

int qk_tags_backward(uint64_t *count, const int64_t *ticks, size_t n)
{
    qk_store64(count, qk_active()->tags->backward(ticks, n));
    return QK_OK;
}

int qk_tags_relabel(uint8_t *bytes, size_t n, uint8_t *largest, const uint8_t *table)
{
    *largest = qk_active()->tags->relabel(bytes, n, table);
    return QK_OK;
}

int qk_tags_count(uint64_t *counts, const uint8_t *labels, size_t n)
{
    enum { N_LABELS = 256, WAYS = 4 };
    uint32_t ways[WAYS][N_LABELS];
    uint64_t total[N_LABELS] = {0};
    for (size_t done = 0; done < n;) {
        const size_t size = n - done < UINT32_MAX ? n - done : UINT32_MAX;
        memset(ways, 0, sizeof ways);
        size_t i = 0;
        for (; i + WAYS <= size; i += WAYS) {
            const uint32_t four = qk_load32(labels + done + i);
            ways[0][four & 255]++;
            ways[1][four >> 8 & 255]++;
            ways[2][four >> 16 & 255]++;
            ways[3][four >> 24]++;
        }
        for (; i < size; i++) {
            ways[0][labels[done + i]]++;
        }
        for (size_t k = 0; k < N_LABELS; k++) {
            total[k] += (uint64_t)ways[0][k] + ways[1][k] + ways[2][k] + ways[3][k];
        }
        done += size;
    }
    memcpy(counts, total, sizeof total);
    return QK_OK;
}

int qk_tags_settle(int64_t *ticks, uint8_t *labels, size_t n, size_t most_moves)
{
    size_t moves = 0;
    for (size_t i = 1; i < n; i++) {
        const int64_t tick = tags_load(ticks + i);
        if (tags_load(ticks + i - 1) <= tick) {
            continue;
        }
        const uint8_t label = labels[i];
        size_t j = i;
        for (; j > 0 && tags_load(ticks + j - 1) > tick; j--) {
            tags_store(ticks + j, tags_load(ticks + j - 1));
            labels[j] = labels[j - 1];
        }
        tags_store(ticks + j, tick);
        labels[j] = label;
        moves += i - j;
        if (moves > most_moves) {
            return QK_NO_ROOM;
        }
    }
    return QK_OK;
}

/* T2 records to tags. Before this: T2_LANES, and if it is not 0 the function
 *
 *     struct t2_step t2_lanes(int64_t *time, uint8_t *ids, const uint8_t *words, uint64_t base, uint64_t wrap,
 *                             int picoharp, int counted)
 *
 * which decodes the first of T2_LANES records, up to one that it leaves to the loop here, and may write T2_LANES tags
 * whatever it finds. */

enum { T2_FIELD_BITS = 25, T2_PICO_BITS = 28, T2_SYNC_ID = 0, T2_MARKER_ID = 100, T2_MOST_LINES = 4 };

/* Tags of the marker lines set in bits. */
QK_INLINE size_t t2_markers(int64_t *time, uint8_t *ids, size_t n, uint32_t bits, uint64_t at)
{
    for (uint8_t line = 1; line <= T2_MOST_LINES; line++) {
        if (bits >> (line - 1) & 1) {
            tags_store(time + n, (int64_t)at);
            ids[n++] = (uint8_t)(T2_MARKER_ID + line);
        }
    }
    return n;
}

QK_INLINE void t2_body(struct t2_run *run, const int picoharp, const int counted)
{
    const uint64_t wrap = run->wrap;
    const uint8_t *const words = run->words;
    const size_t n_words = run->n_words, capacity = run->capacity;
    int64_t *const time = run->time;
    uint8_t *const ids = run->ids;
    uint64_t overflows = run->overflows, base = overflows * wrap, meaningless = 0;
    size_t i = run->n_read, n = run->n_tags;
    while (i < n_words) {
#if T2_LANES
        if (n_words - i >= T2_LANES && capacity - n >= T2_LANES) {
            const struct t2_step step = t2_lanes(time + n, ids + n, words + 4 * i, base, wrap, picoharp, counted);
            n += step.n_tags;
            overflows += step.overflows;
            base += step.overflows * wrap;
            if (step.n_words == T2_LANES) {
                i += T2_LANES; /* a number: the next group need not wait for this one */
                continue;
            }
            i += step.n_words;
        }
#endif
        const uint32_t word = qk_load32(words + 4 * i);
        const uint32_t channel = picoharp ? word >> T2_PICO_BITS : word >> T2_FIELD_BITS;
        const uint32_t offset = word & ((1U << (picoharp ? T2_PICO_BITS : T2_FIELD_BITS)) - 1);
        if (picoharp ? channel != 15 : channel < 64) {
            if (n == capacity) {
                break;
            }
            tags_store(time + n, (int64_t)(base + offset));
            ids[n++] = (uint8_t)(channel + 1);
        } else if (picoharp ? (offset & 15) == 0 : channel == 127) {
            overflows += counted && offset ? offset : 1;
            base = overflows * wrap;
        } else if (capacity - n < T2_MOST_LINES) {
            break;
        } else if (picoharp) {
            n = t2_markers(time, ids, n, offset & 15, base + (offset & ~15U));
        } else if (channel == 64) {
            tags_store(time + n, (int64_t)(base + offset));
            ids[n++] = T2_SYNC_ID;
        } else if (channel < 80) {
            n = t2_markers(time, ids, n, channel & 15, base + offset);
        } else {
            meaningless++;
        }
        i++;
    }
    run->n_read = i;
    run->n_tags = n;
    run->overflows = overflows;
    run->meaningless += meaningless;
}

static void t2_decode(struct t2_run *run)
{
    switch (run->family) {
    case QK_T2_PICOHARP:
        t2_body(run, 1, 0);
        break;
    case QK_T2_HYDRAHARP_1:
        t2_body(run, 0, 0);
        break;
    default:
        t2_body(run, 0, 1);
    }
}

/* Arrivals under a clock, each for itself: how they lie within the slot, and which slots they lie in.
 *
 * Clicks are gathered as long as they lie in one piece of the clock and one slice of time, and placed together. */
#include "tags.h"

enum { N_CHANNELS = 256 };

/* Slots before slot zero are wanted too, and gate_step leaves them out. */
#define FAR_SLOT ((uint64_t)1 << 62)

struct fold {
    const struct qk_gate_rules *rules;
    int64_t *counts; /* NULL: none */
    const int64_t *rows;
    int64_t slice_start, slice_ticks;
    int64_t *slots; /* NULL: none */
    uint8_t *labels;
    size_t n_found;
    void (*place)(struct gate_step *step, const int64_t *times, size_t n, int64_t before, const struct gate_line *line);
    int64_t low, high;
    size_t piece, slice;
    int locked;
    int64_t times[GATE_STEP];
    uint8_t channels[GATE_STEP];
    struct gate_step step;
};

/* The stretch around a time in which piece, lock and slice stay the same. */
static void locate(struct fold *f, int64_t time)
{
    const struct qk_gate_rules *const r = f->rules;
    const int64_t first = tags_load(r->knot_ticks);
    size_t low = 0, end = r->n_knots;
    while (low < end) {
        const size_t middle = low + (end - low) / 2;
        if (tags_load(r->knot_ticks + middle) <= time) {
            low = middle + 1;
        } else {
            end = middle;
        }
    }
    f->piece = low ? low - 1 : 0;
    f->low = low ? tags_load(r->knot_ticks + f->piece) : INT64_MIN;
    f->high = low < r->n_knots ? tags_load(r->knot_ticks + low) : INT64_MAX;
    f->locked = r->locked[f->piece] && time >= first && time < r->stop_tick;
    if (time < r->stop_tick) {
        f->high = f->high < r->stop_tick ? f->high : r->stop_tick;
    } else {
        f->low = f->low > r->stop_tick ? f->low : r->stop_tick;
    }
    f->slice = 0;
    if (f->locked && f->slice_ticks > 0) {
        const uint64_t since = (uint64_t)time - (uint64_t)f->slice_start;
        const int64_t into = (int64_t)(since % (uint64_t)f->slice_ticks), left = f->slice_ticks - into;
        f->slice = (size_t)(since / (uint64_t)f->slice_ticks);
        f->low = time - into > f->low ? time - into : f->low;
        f->high = f->high - time > left ? time + left : f->high;
    }
}

/* The clicks gathered, all of one stretch. */
static void place_gathered(struct fold *f, size_t n)
{
    const struct qk_gate_rules *const r = f->rules;
    const struct gate_line line = {
        .knot_tick = tags_load(r->knot_ticks + f->piece),
        .knot_slot = (int64_t)((uint64_t)tags_load(r->knot_slot + f->piece) + FAR_SLOT),
        .knot_fraction = tags_load_double(r->knot_fraction + f->piece),
        .slots_per_tick = tags_load_double(r->slots_per_tick + f->piece),
        .half_gate = r->half_gate,
        .offset = r->offset,
        .bins = (double)r->bins,
    };
    for (size_t i = 0; i < n; i++) {
        f->step.part[i] = tags_load_double(r->part_ticks + f->channels[i]);
    }
    f->place(&f->step, f->times, n, f->times[0], &line);
    for (size_t i = 0; f->counts && i < n; i++) {
        const size_t row = (size_t)tags_load(f->rows + f->channels[i]) + f->slice;
        int64_t *const count = f->counts + row * r->bins + (size_t)f->step.bin[i];
        tags_store(count, tags_load(count) + 1);
    }
    size_t found = f->n_found;
    for (size_t i = 0; f->slots && i < n; i++) {
        tags_store(f->slots + found, (int64_t)((uint64_t)f->step.slot[i] - FAR_SLOT));
        f->labels[found] = f->channels[i];
        found += f->step.counts[i];
    }
    f->n_found = found;
}

static void fold_all(struct fold *f, const int64_t *ticks, const uint8_t *channel, size_t n)
{
    const struct qk_gate_rules *const r = f->rules;
    size_t held = 0;
    f->place = qk_active()->tags->place;
    for (size_t i = 0; i < n; i++) {
        const uint8_t c = channel[i];
        const int64_t time = (int64_t)((uint64_t)tags_load(ticks + i) - (uint64_t)tags_load(r->whole_ticks + c));
        if (r->code[c] < 0) {
            continue;
        }
        if (held == GATE_STEP || ((time < f->low || time >= f->high) && held)) {
            place_gathered(f, held);
            held = 0;
        }
        if (time < f->low || time >= f->high) {
            locate(f, time);
        }
        f->times[held] = time;
        f->channels[held] = c;
        held += (size_t)f->locked;
    }
    if (held) {
        place_gathered(f, held);
    }
}

/* Whether all that a fold can count lies in the table. */
static int rows_fit(const struct fold *f, size_t n_rows)
{
    const struct qk_gate_rules *const r = f->rules;
    const int64_t first = tags_load(r->knot_ticks);
    uint64_t slices = 0;
    if (f->slice_ticks > 0 && r->stop_tick > first) {
        if (f->slice_start > first) {
            return 0;
        }
        slices = ((uint64_t)r->stop_tick - 1 - (uint64_t)f->slice_start) / (uint64_t)f->slice_ticks;
    }
    for (size_t c = 0; c < N_CHANNELS; c++) {
        const int64_t row = tags_load(f->rows + c);
        if (r->code[c] >= 0 && (row < 0 || slices >= n_rows || (uint64_t)row >= n_rows - slices)) {
            return 0;
        }
    }
    return 1;
}

int qk_fold(int64_t *counts, size_t n_rows, const int64_t *ticks, const uint8_t *channel, size_t n,
            const struct qk_gate_rules *rules, const int64_t *rows, int64_t slice_start, int64_t slice_ticks)
{
    struct fold f = {.rules = rules, .counts = counts, .rows = rows, .slice_start = slice_start,
                     .slice_ticks = slice_ticks, .low = INT64_MAX, .high = INT64_MIN};
    if (rules->n_knots == 0 || rules->bins == 0 || !rows_fit(&f, n_rows)) {
        return QK_BAD_SIZE;
    }
    fold_all(&f, ticks, channel, n);
    return QK_OK;
}

int qk_slots(int64_t *slots, uint8_t *labels, uint64_t *n_found, const int64_t *ticks, const uint8_t *channel, size_t n,
             const struct qk_gate_rules *rules)
{
    struct fold f = {.rules = rules, .slots = slots, .labels = labels, .low = INT64_MAX, .high = INT64_MIN};
    if (rules->n_knots == 0 || rules->bins == 0) {
        return QK_BAD_SIZE;
    }
    fold_all(&f, ticks, channel, n);
    qk_store64(n_found, f.n_found);
    return QK_OK;
}

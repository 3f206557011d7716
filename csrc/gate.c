/* From raw tags to clicks in slots: the rules are those of qkdpp/timing/gate_portable.py.
 *
 * Clicks wait in a small buffer until no later tag can come before them, and are handled in order of corrected time,
 * in stretches within which neither a gap nor a piece of the clock begins or ends. */
#include "tags.h"

#define NEVER (-((int64_t)1 << 61))

enum { LOST, UNLOCKED, OUTSIDE, BLANKED, REPEATED, N_COUNTERS, N_DETECTORS = 4, N_CHANNELS = 256 };

struct gate_run {
    const struct qk_gate_rules *rules;
    void (*place)(struct gate_step *step, const int64_t *times, size_t n, int64_t before, const struct gate_line *line);
    int64_t *slots, *at, *histogram;
    uint8_t *mask, *leader;
    int64_t counters[N_COUNTERS];
    int64_t last_click, last_slot;
    size_t n_found, piece, gap;
    struct gate_step step;
};

/* The first of the sorted ticks from i on that is not below the boundary. */
static size_t first_from(const int64_t *ticks, size_t i, size_t n, int64_t boundary)
{
    if (tags_load(ticks + n - 1) < boundary) {
        return n;
    }
    size_t reach = 1;
    while (i + reach < n && tags_load(ticks + i + reach) < boundary) {
        i += reach;
        reach *= 2;
    }
    size_t end = i + reach < n ? i + reach : n - 1;
    while (i < end) {
        const size_t middle = i + (end - i) / 2;
        if (tags_load(ticks + middle) < boundary) {
            i = middle + 1;
        } else {
            end = middle;
        }
    }
    return end;
}

/* Clicks that have been placed: each joins the detection before it, makes one, or is counted. What will come cannot be
 * predicted, so everything is written, and stays only where it makes a detection. */
static void take(struct gate_run *run, const int64_t *ticks, const uint8_t *channel, size_t n)
{
    const struct qk_gate_rules *const rules = run->rules;
    const struct gate_step *const step = &run->step;
    int64_t *const slots = run->slots, *const at = run->at, *const histogram = run->histogram;
    uint8_t *const mask = run->mask, *const leader = run->leader;
    const int8_t *const codes = rules->code;
    const size_t bins = rules->bins, found_before = run->n_found;
    int64_t last_slot = run->last_slot;
    size_t found = found_before, joined = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t slot = step->slot[i];
        const uint8_t code = (uint8_t)codes[channel[i]];
        const size_t counts = step->counts[i], leads = counts & step->live[i] & (size_t)(slot > last_slot);
        int64_t *const bin = histogram + bins * code + (size_t)step->bin[i];
        tags_store(bin, tags_load(bin) + 1);
        if (slot == last_slot && counts) {
            run->counters[REPEATED] += mask[found - 1] >> code & 1;
            mask[found - 1] |= (uint8_t)(1 << code);
            joined++;
        }
        tags_store(slots + found, slot);
        tags_store(at + found, tags_load(ticks + i));
        leader[found] = code;
        mask[found] = (uint8_t)(1 << code);
        last_slot ^= (last_slot ^ slot) & -(int64_t)leads;
        found += leads;
    }
    run->last_slot = last_slot;
    run->n_found = found;
    run->last_click = tags_load(ticks + n - 1);
    run->counters[UNLOCKED] += (int64_t)(n - step->n_ahead);
    run->counters[OUTSIDE] += (int64_t)(step->n_ahead - step->n_counts);
    run->counters[BLANKED] += (int64_t)(step->n_counts - joined - (found - found_before));
}

/* Clicks under one locked piece of the clock. */
static void locked_stretch(struct gate_run *run, const int64_t *ticks, const uint8_t *channel, size_t n)
{
    const struct qk_gate_rules *const rules = run->rules;
    const struct gate_line line = {
        .knot_tick = tags_load(rules->knot_ticks + run->piece),
        .knot_slot = tags_load(rules->knot_slot + run->piece),
        .knot_fraction = tags_load_double(rules->knot_fraction + run->piece),
        .slots_per_tick = tags_load_double(rules->slots_per_tick + run->piece),
        .half_gate = rules->half_gate,
        .offset = rules->offset,
        .bins = (double)rules->bins,
        .dead_ticks = rules->dead_ticks,
    };
    for (size_t done = 0; done < n; done += GATE_STEP) {
        const size_t size = n - done < GATE_STEP ? n - done : GATE_STEP;
        for (size_t i = 0; i < size; i++) {
            run->step.part[i] = tags_load_double(rules->part_ticks + channel[done + i]);
        }
        run->place(&run->step, ticks + done, size, run->last_click, &line);
        take(run, ticks + done, channel + done, size);
    }
}

/* Clicks in order of corrected time. */
static void in_order(struct gate_run *run, const int64_t *ticks, const uint8_t *channel, size_t n)
{
    const struct qk_gate_rules *const rules = run->rules;
    const int64_t first_knot = tags_load(rules->knot_ticks);
    for (size_t i = 0, end; i < n; i = end) {
        const int64_t tick = tags_load(ticks + i);
        while (run->gap < rules->n_gaps && tags_load(rules->gap_end + run->gap) <= tick) {
            run->gap++;
        }
        const int has_gap = run->gap < rules->n_gaps;
        int64_t boundary = has_gap ? tags_load(rules->gap_start + run->gap) : INT64_MAX;
        if (has_gap && boundary <= tick) {
            end = first_from(ticks, i, n, tags_load(rules->gap_end + run->gap));
            run->counters[LOST] += (int64_t)(end - i);
            run->last_click = tags_load(ticks + end - 1);
            continue;
        }
        while (run->piece + 1 < rules->n_knots && tags_load(rules->knot_ticks + run->piece + 1) <= tick) {
            run->piece++;
        }
        const int locked = rules->locked[run->piece] && tick >= first_knot && tick < rules->stop_tick;
        if (run->piece + 1 < rules->n_knots) {
            const int64_t next = tags_load(rules->knot_ticks + run->piece + 1);
            boundary = next < boundary ? next : boundary;
        }
        const int64_t turn = tick < first_knot ? first_knot : rules->stop_tick;
        boundary = turn > tick && turn < boundary ? turn : boundary;
        end = first_from(ticks, i, n, boundary);
        if (locked) {
            locked_stretch(run, ticks + i, channel + i, end - i);
        } else {
            run->counters[UNLOCKED] += (int64_t)(end - i);
            run->last_click = tags_load(ticks + end - 1);
        }
    }
}

static int valid(const struct qk_gate_rules *rules)
{
    int good = rules->n_knots > 0 && rules->bins > 0;
    for (size_t i = 0; i < N_CHANNELS; i++) {
        good &= rules->code[i] < N_DETECTORS;
    }
    return good;
}

int qk_gate(uint64_t *n_found, int64_t *slots, uint8_t *mask, uint8_t *leader, int64_t *at, int64_t *histogram,
            int64_t *counters, const int64_t *ticks, const uint8_t *channel, size_t n, const struct qk_gate_rules *rules,
            int64_t *held_ticks, uint8_t *held_channel, size_t n_held)
{
    if (!valid(rules) || n_held == 0) {
        return QK_BAD_SIZE;
    }
    struct gate_run run = {.rules = rules, .place = qk_active()->tags->place, .slots = slots, .at = at,
                           .histogram = histogram, .mask = mask, .leader = leader, .last_click = NEVER, .last_slot = -1};
    int64_t latest = INT64_MIN;
    for (size_t i = 0; i < N_CHANNELS; i++) {
        const int64_t delay = tags_load(rules->whole_ticks + i);
        latest = delay > latest ? delay : latest;
    }
    size_t held = 0;
    for (size_t i = 0; i < n; i++) {
        if (held == n_held) {
            const int64_t safe = tags_load(ticks + i) - latest;
            const size_t ready = tags_load(held_ticks) > safe ? 0 : first_from(held_ticks, 0, held, safe + 1);
            if (ready == 0) {
                return QK_NO_ROOM;
            }
            in_order(&run, held_ticks, held_channel, ready);
            held -= ready;
            memmove(held_ticks, held_ticks + ready, held * sizeof *held_ticks);
            memmove(held_channel, held_channel + ready, held);
        }
        const uint8_t c = channel[i];
        const int64_t tick = tags_load(ticks + i) - tags_load(rules->whole_ticks + c);
        tags_store(held_ticks + held, tick);
        held_channel[held] = c;
        if (rules->code[c] >= 0 && held > 0 && tags_load(held_ticks + held - 1) > tick) {
            size_t j = held;
            for (; j > 0 && tags_load(held_ticks + j - 1) > tick; j--) {
                tags_store(held_ticks + j, tags_load(held_ticks + j - 1));
                held_channel[j] = held_channel[j - 1];
            }
            tags_store(held_ticks + j, tick);
            held_channel[j] = c;
        }
        held += rules->code[c] >= 0;
    }
    if (held) {
        in_order(&run, held_ticks, held_channel, held);
    }
    memcpy(counters, run.counters, sizeof run.counters);
    qk_store64(n_found, run.n_found);
    return QK_OK;
}

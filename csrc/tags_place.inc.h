/* Places of clicks one by one. Before this: gate_floor(x), gate_whole(x): x as an integer, INT64_MIN if it does not fit. */

static void place(struct gate_step *step, const int64_t *times, size_t n, int64_t before, const struct gate_line *line)
{
    const struct gate_line l = *line;
    const double last_bin = l.bins - 1.0;
    size_t n_ahead = 0, n_counts = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t time = tags_load(times + i);
        const double ticks = (double)(time - l.knot_tick) - step->part[i];
        const double position = l.knot_fraction + ticks * l.slots_per_tick;
        const double raw = position - gate_floor(position + 0.5);
        const double bin = (raw + 0.5) * l.bins;
        const double shifted = position - l.offset;
        const double whole = gate_floor(shifted + 0.5);
        const double away = shifted - whole;
        const int64_t slot = (int64_t)((uint64_t)l.knot_slot + (uint64_t)gate_whole(whole));
        const int ahead = slot >= 0, counts = ahead & (away <= l.half_gate) & (away >= -l.half_gate);
        step->bin[i] = gate_whole(bin < last_bin ? bin : last_bin);
        step->slot[i] = slot;
        step->counts[i] = (uint8_t)counts;
        step->live[i] = time - before >= l.dead_ticks;
        n_ahead += (size_t)ahead;
        n_counts += (size_t)counts;
        before = time;
    }
    step->n_ahead = n_ahead;
    step->n_counts = n_counts;
}

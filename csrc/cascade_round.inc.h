/* A round: every frame takes its answers and says what it asks next, while its state is in the cache. */

/* The entries of a frame in the last round. */
QK_INLINE struct entry *asked_from(const struct qk_cascade *b, const struct frame *f)
{
    return (struct entry *)b->entries[b->turn ^ 1] + f->first_entry;
}

/* Brings a frame's state to the cache, as far as the next step will need it. */
QK_INLINE void fetch_frame(const struct qk_cascade *b, size_t number)
{
    enum { MOST = 24 };
    if (number + 4 < b->n_frames) {
        const char *header = (const char *)cascade_frame(b, number + 4);
        prefetch(header);
        prefetch(header + 64);
    }
    if (number >= b->n_frames) {
        return;
    }
    const struct view v = cascade_view(b, number);
    for (int p = 0; p < 2; p++) {
        for (size_t i = 0; i < cascade_groups(b) && i < MOST; i++) {
            prefetch(v.groups[p] + i);
        }
    }
    if (b->answers && v.f->alone >= 0) {
        const struct entry *e = asked_from(b, v.f);
        for (size_t k = 0; k < v.f->n_entries && k < MOST; k++) {
            if (e[k].hi - e[k].lo <= v.f->limit) {
                prefetch(cell_of(v.cells[v.f->alone], e[k].lo));
            }
        }
    }
}

int TIER(cascade_round)(struct qk_cascade *b)
{
    enum { MOST_BITS = 10 };
    struct source answers = {.words = b->answers, .at = b->answer_at};
    struct sink s = {.entries = b->entries[b->turn], .n = b->n_entries, .out = b->out, .bits = b->n_out};
    s.word = s.bits & 63 ? s.out[s.bits >> 6] : 0;
    for (; b->cursor < b->n_frames; b->cursor++) {
        struct frame *f = cascade_frame(b, b->cursor);
        struct view v = cascade_view(b, b->cursor);
        fetch_frame(b, b->cursor + 1);
        if (b->answers && b->n_told == b->cursor) {
            tell(&v, &answers, asked_from(b, f));
            b->n_told++;
        }
        if (b->asking) {
            choose(b, f);
            const size_t room = room_for(b, f);
            if (s.n + room > b->room_entries || s.bits + room * MOST_BITS + blocks_for(f) + 64 > 64 * b->out_words) {
                break;
            }
            if (f->wish != IDLE) {
                plan(&v, &s, asked_from(b, f));
                b->n_left++;
            }
        }
    }
    if (b->asking) {
        s.out[s.bits >> 6] = s.word;
        b->n_entries = s.n;
        b->n_out = s.bits;
    }
    b->answer_at = answers.at;
    return b->cursor < b->n_frames ? QK_CASCADE_MORE : QK_OK;
}

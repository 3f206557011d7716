/* A round: every frame takes its answers and says what it asks next, while its state is in the cache. */

/* The entries of a frame in the last round. */
QK_INLINE struct entry *asked_from(const struct qk_cascade *b, size_t f)
{
    return (struct entry *)b->entries[b->turn ^ 1] + (f < b->n_frames ? cascade_frame(b, f)->first_entry : b->n_asked);
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
    const int p = v.f->current;
    for (size_t i = 0; i < cascade_sum_words(b) && i < 2 * LINE_WORDS; i += LINE_WORDS) {
        prefetch(v.sums[p] + i);
    }
    if (b->answers) {
        const struct entry *e = asked_from(b, number), *end = asked_from(b, number + 1);
        for (int k = 0; e < end && k < MOST; e++, k++) {
            prefetch(cell_of(v.cells[e->kind == MASK ? 0 : e->list], e->lo));
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
            struct entry *first = asked_from(b, b->cursor), *end = asked_from(b, b->cursor + 1);
            if (first < end) {
                TIER(tell_frame)(&v, &answers, first, end);
            }
            b->n_told++;
        }
        if (b->asking) {
            const size_t room = choose(b, f);
            if (s.n + room > b->room_entries || s.bits + room * MOST_BITS + 64 > 64 * b->out_words) {
                break;
            }
            f->first_entry = s.n;
            if (f->wish != IDLE) {
                plan(&v, &s);
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

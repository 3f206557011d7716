/* Two sorted streams: coincidences and merging.
 *
 * Whichever of two random streams comes next cannot be predicted, so nothing here branches on it, and several stretches
 * are walked side by side to hide the latency of one. */
#include "tags.h"

enum { WALKS = 4, ROUND = 256, FEW = 8 };

/* The first of the sorted ticks that is not below x. */
static size_t lower_bound(const int64_t *ticks, size_t n, int64_t x)
{
    size_t low = 0;
    while (n > low) {
        const size_t middle = low + (n - low) / 2;
        if (tags_load(ticks + middle) < x) {
            low = middle + 1;
        } else {
            n = middle;
        }
    }
    return low;
}

static int64_t difference(int64_t x, int64_t y) { return (int64_t)((uint64_t)x - (uint64_t)y); }

static int64_t distance(int64_t x, int64_t y)
{
    const int64_t d = difference(x, y);
    return d < 0 ? (int64_t)(0 - (uint64_t)d) : d;
}

struct streams {
    const int64_t *a, *b;
    size_t n_a, n_b;
    int64_t half_window;
};

/* Index of the nearest of y to x, where right is the first of y that is not below x (or n). */
static size_t nearest(int64_t x, const int64_t *y, size_t n, size_t right)
{
    right = right < n ? right : n - 1;
    const size_t left = right ? right - 1 : 0;
    return distance(x, tags_load(y + left)) <= distance(tags_load(y + right), x) ? left : right;
}

/* By definition: whether a[i] and its nearest event, left in *j, are a pair; right is the first of b not below a[i]. */
static int pairs_by_definition(const struct streams *s, size_t i, size_t right, size_t *j)
{
    const int64_t x = tags_load(s->a + i);
    *j = nearest(x, s->b, s->n_b, right);
    const int64_t y = tags_load(s->b + *j);
    return distance(x, y) <= s->half_window && nearest(y, s->a, s->n_a, lower_bound(s->a, s->n_a, y)) == i;
}

/* A stretch of a, from i to end, and where the first of b not below a[i] is; pairs go to in_a and in_b. */
struct walk {
    size_t i, end, j, n_pairs;
    int64_t *in_a, *in_b;
    size_t round_from, round_end;
    size_t right[ROUND]; /* at i % ROUND */
};

/* Room for steps of a walk in which neither stream can end. */
static size_t free_steps(const struct walk *w, size_t n_b)
{
    const size_t in_a = w->round_end - w->i, in_b = n_b - w->j;
    return in_a < in_b ? in_a : in_b;
}

/* Some steps of every walk; positions stay in registers. */
static void steps(struct walk walks[WALKS], const struct streams *s, size_t n)
{
    const int64_t *const a = s->a, *const b = s->b;
    struct walk *const v = walks, *const w = walks + 1, *const x = walks + 2, *const y = walks + 3;
    size_t vi = v->i, vj = v->j, wi = w->i, wj = w->j, xi = x->i, xj = x->j, yi = y->i, yj = y->j;
    size_t *const v_right = v->right, *const w_right = w->right, *const x_right = x->right, *const y_right = y->right;
#define STEP(i, j, right)                                            \
    do {                                                             \
        const size_t is_b = tags_load(b + (j)) < tags_load(a + (i)); \
        (right)[(i) % ROUND] = (j);                                  \
        (j) += is_b;                                                 \
        (i) += 1 - is_b;                                             \
    } while (0)
    for (; n; n--) {
        STEP(vi, vj, v_right);
        STEP(wi, wj, w_right);
        STEP(xi, xj, x_right);
        STEP(yi, yj, y_right);
    }
#undef STEP
    v->i = vi, v->j = vj, w->i = wi, w->j = wj, x->i = xi, x->j = xj, y->i = yi, y->j = yj;
}

/* The rest of a round of one walk. */
static void finish_round(struct walk *w, const struct streams *s)
{
    const int64_t *const a = s->a, *const b = s->b;
    size_t i = w->i, j = w->j;
    while (i < w->round_end && j < s->n_b) {
        const size_t is_b = tags_load(b + j) < tags_load(a + i);
        w->right[i % ROUND] = j;
        j += is_b;
        i += 1 - is_b;
    }
    for (; i < w->round_end; i++) {
        w->right[i % ROUND] = j;
    }
    w->i = i;
    w->j = j;
}

/* Where the first of b not below each of the next events of a is, for all walks; 0 if there is none left. */
static int next_round(struct walk walks[WALKS], const struct streams *s)
{
    int more = 0;
    for (size_t k = 0; k < WALKS; k++) {
        struct walk *const w = walks + k;
        w->round_from = w->i;
        w->round_end = w->end - w->i < ROUND ? w->end : w->i + ROUND;
        more |= w->i < w->end;
    }
    for (;;) {
        size_t n = ROUND;
        for (size_t k = 0; k < WALKS; k++) {
            const size_t room = free_steps(walks + k, s->n_b);
            n = room < n ? room : n;
        }
        if (n < FEW) {
            break;
        }
        steps(walks, s, n);
    }
    for (size_t k = 0; k < WALKS; k++) {
        finish_round(walks + k, s);
    }
    return more;
}

/* The pairs of a round. Between the ends of both streams a[i] and b[j] are a pair if no neighbour of either is nearer. */
static void take_pairs(struct walk *w, const struct streams *s)
{
    size_t n = w->n_pairs;
    for (size_t i = w->round_from; i < w->round_end; i++) {
        const size_t right = w->right[i % ROUND];
        size_t j;
        int found;
        if (i == 0 || i + 2 >= s->n_a || right == 0 || right == s->n_b) {
            found = pairs_by_definition(s, i, right, &j);
        } else {
            const int64_t x = tags_load(s->a + i);
            const int64_t below = tags_load(s->b + right - 1), from = tags_load(s->b + right);
            const int64_t to_below = difference(x, below), to_from = difference(from, x);
            const int64_t before = tags_load(s->a + i - 1), after = tags_load(s->a + i + 1);
            const int is_below = to_below <= to_from;
            const int mutual_below = (difference(below, before) > to_below) & (to_below <= s->half_window);
            const int mutual_from = (difference(after, from) >= to_from) & ((to_from > 0) | (before < x));
            found = (is_below & mutual_below) | ((1 - is_below) & mutual_from & (to_from <= s->half_window));
            j = right - (size_t)is_below;
        }
        tags_store(w->in_a + n, (int64_t)i);
        tags_store(w->in_b + n, (int64_t)j);
        n += (size_t)found;
    }
    w->n_pairs = n;
}

int qk_tags_match(int64_t *in_a, int64_t *in_b, size_t capacity, uint64_t *n_pairs, const int64_t *a, size_t n_a,
                  const int64_t *b, size_t n_b, int64_t half_window)
{
    qk_store64(n_pairs, 0);
    if (n_a == 0 || n_b == 0) {
        return QK_OK;
    }
    if (capacity < (n_a < n_b ? n_a : n_b) + QK_MATCH_ROOM) {
        return QK_NO_ROOM;
    }
    const struct streams s = {a, b, n_a, n_b, half_window};
    struct walk walks[WALKS];
    for (size_t k = 0; k < WALKS; k++) {
        struct walk *const w = walks + k;
        w->i = n_a / WALKS * k;
        w->end = k + 1 < WALKS ? n_a / WALKS * (k + 1) : n_a;
        w->j = lower_bound(b, n_b, tags_load(a + w->i));
        /* Earlier walks may find i pairs or j + 1 for each of them, and spoil one place behind. */
        const size_t by_a = w->i + k, by_b = w->j + 3 * k;
        w->in_a = in_a + (by_a < by_b ? by_a : by_b);
        w->in_b = in_b + (by_a < by_b ? by_a : by_b);
        w->n_pairs = 0;
    }
    while (next_round(walks, &s)) {
        for (size_t k = 0; k < WALKS; k++) {
            take_pairs(walks + k, &s);
        }
    }
    size_t n = 0;
    for (size_t k = 0; k < WALKS; k++) {
        memmove(in_a + n, walks[k].in_a, walks[k].n_pairs * sizeof *in_a);
        memmove(in_b + n, walks[k].in_b, walks[k].n_pairs * sizeof *in_b);
        n += walks[k].n_pairs;
    }
    qk_store64(n_pairs, n);
    return QK_OK;
}

/* What is left of two streams, and where they go. */
struct merging {
    int64_t *ticks;
    uint8_t *labels;
    const int64_t *a, *b, *a_end, *b_end;
    const uint8_t *labels_a, *labels_b;
};

static inline void merge_step(struct merging *m)
{
    const int64_t x = tags_load(m->a), y = tags_load(m->b);
    const size_t is_b = y < x;
    const uint8_t p = *m->labels_a, q = *m->labels_b;
    tags_store(m->ticks++, is_b ? y : x);
    *m->labels++ = is_b ? q : p;
    m->b += is_b;
    m->labels_b += is_b;
    m->a += 1 - is_b;
    m->labels_a += 1 - is_b;
}

static void merge_rest(struct merging *m)
{
    while (m->a < m->a_end && m->b < m->b_end) {
        merge_step(m);
    }
    const size_t n_a = (size_t)(m->a_end - m->a), n_b = (size_t)(m->b_end - m->b);
    memcpy(m->ticks, m->a, n_a * sizeof *m->a);
    memcpy(m->labels, m->labels_a, n_a);
    memcpy(m->ticks + n_a, m->b, n_b * sizeof *m->b);
    memcpy(m->labels + n_a, m->labels_b, n_b);
}

int qk_tags_merge(int64_t *ticks, uint8_t *labels, const int64_t *a, const uint8_t *labels_a, size_t n_a,
                  const int64_t *b, const uint8_t *labels_b, size_t n_b)
{
    const size_t i = n_a / 2, j = n_a ? lower_bound(b, n_b, tags_load(a + i)) : 0;
    struct merging first = {ticks, labels, a, b, a + i, b + j, labels_a, labels_b};
    struct merging second = {ticks + i + j, labels + i + j, a + i, b + j, a + n_a, b + n_b, labels_a + i, labels_b + j};
    while (first.a < first.a_end && first.b < first.b_end && second.a < second.a_end && second.b < second.b_end) {
        merge_step(&first);
        merge_step(&second);
    }
    merge_rest(&first);
    merge_rest(&second);
    return QK_OK;
}

int qk_tags_lookup(uint8_t *found, const int64_t *wanted, size_t n_wanted, const int64_t *ticks, const uint8_t *labels,
                   size_t n, uint8_t missing)
{
    int64_t before = INT64_MIN;
    size_t at = 0;
    for (size_t i = 0; i < n_wanted; i++) {
        const int64_t tick = tags_load(wanted + i);
        if (tick < before) {
            at = lower_bound(ticks, n, tick);
        }
        while (at < n && tags_load(ticks + at) < tick) {
            at++;
        }
        found[i] = at < n && tags_load(ticks + at) == tick ? labels[at] : missing;
        before = tick;
    }
    return QK_OK;
}

/* The robust line through the pulses of one window of a sync channel.
 *
 * The definition is qkdpp/timing/sync_line.py; sums are taken in NumPy's order, so that the results agree bit for bit. */
#include "tags.h"

#include <math.h>

enum { MOST = 1536, LEAST = 8, PASSES = 3, SAMPLE = 15, PAIRWISE = 128 };

struct line_room {
    double k[MOST], residual[MOST], kept_k[MOST], kept[MOST], term[MOST];
    uint8_t keep[MOST];
};

/* The pairwise sum of NumPy. */
static double sum(const double *x, size_t n)
{
    if (n > PAIRWISE) {
        const size_t half = n / 2 - n / 2 % 8;
        return sum(x, half) + sum(x + half, n - half);
    }
    if (n < 8) {
        double total = 0.0;
        for (size_t i = 0; i < n; i++) {
            total += x[i];
        }
        return total;
    }
    double part[8];
    size_t i = 8;
    memcpy(part, x, sizeof part);
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            part[j] += x[i + j];
        }
    }
    double total = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    for (; i < n; i++) {
        total += x[i];
    }
    return total;
}

/* Of some items spread over x, the one whose rank among them is nearest to rank / n. */
static double sampled(const double *x, size_t n, size_t rank)
{
    double found[SAMPLE];
    const size_t size = n < SAMPLE ? n : SAMPLE;
    for (size_t i = 0; i < size; i++) {
        const double value = x[i * n / size];
        size_t at = i;
        for (; at > 0 && found[at - 1] > value; at--) {
            found[at] = found[at - 1];
        }
        found[at] = value;
    }
    return found[rank * size / n];
}

/* Puts the item of that rank in its place, and none above it before it. */
static void select_rank(double *x, size_t n, size_t rank)
{
    size_t low = 0, end = n;
    while (end - low > 1) {
        const double pivot = sampled(x + low, end - low, rank - low);
        size_t split = low;
        for (size_t i = low; i < end; i++) {
            const double value = x[i];
            x[i] = x[split];
            x[split] = value;
            split += value < pivot;
        }
        if (rank < split) {
            end = split;
            continue;
        }
        low = split;
        for (size_t i = split; i < end; i++) {
            const double value = x[i];
            x[i] = x[low];
            x[low] = value;
            low += value == pivot;
        }
        if (rank < low) {
            return;
        }
    }
}

/* The median; the items change places. */
static double median(double *x, size_t n)
{
    const size_t middle = n / 2;
    select_rank(x, n, middle);
    const double high = x[middle];
    double low = x[0];
    for (size_t i = 1; i < middle; i++) {
        low = x[i] > low ? x[i] : low;
    }
    return n % 2 ? high : (low + high) / 2;
}

static void number(struct line_room *r, const int64_t *ticks, size_t n, int64_t tick, double period)
{
    for (size_t i = 0; i < n; i++) {
        const double x = (double)(int64_t)((uint64_t)tags_load(ticks + i) - (uint64_t)tick);
        r->k[i] = rint(x / period);
        r->residual[i] = x - r->k[i] * period;
    }
}

/* Keeps the pulses near the line; whether these are others than before. */
static int choose(struct line_room *r, size_t n, struct qk_line *line, double least)
{
    double *const off = r->kept; /* read before it is overwritten */
    for (size_t i = 0; i < n; i++) {
        off[i] = r->term[i] = fabs(r->residual[i] - line->offset - line->slope * r->k[i]);
    }
    const double limit = 5 * (1.4826 * median(r->term, n));
    const double most = limit >= least ? limit : least;
    size_t kept = 0;
    unsigned changed = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t keep = off[i] <= most;
        r->kept[kept] = r->residual[i];
        r->kept_k[kept] = r->k[i];
        kept += keep;
        changed |= keep ^ r->keep[i];
        r->keep[i] = keep;
    }
    line->kept = (int64_t)kept;
    return changed != 0;
}

/* Least squares through what is kept; 0 if that is no line. */
static int fit(struct line_room *r, struct qk_line *line)
{
    const size_t n = (size_t)line->kept;
    if (n < LEAST) {
        return 0;
    }
    const double centre = sum(r->kept_k, n) / (double)n, mean = sum(r->kept, n) / (double)n;
    for (size_t i = 0; i < n; i++) {
        r->term[i] = (r->kept_k[i] - centre) * (r->kept_k[i] - centre);
    }
    const double moment = sum(r->term, n);
    for (size_t i = 0; i < n; i++) {
        r->term[i] = (r->kept_k[i] - centre) * (r->kept[i] - mean);
    }
    line->slope = sum(r->term, n) / moment;
    line->offset = mean - line->slope * centre;
    return moment != 0;
}

/* Variance about the line, and the mean square of the quadratic part less what jitter alone would give. */
static void spread(struct line_room *r, struct qk_line *line)
{
    const size_t n = (size_t)line->kept;
    double *const off = r->residual, *const legendre = r->k;
    double first = r->kept_k[0], last = first;
    for (size_t i = 0; i < n; i++) {
        off[i] = r->kept[i] - line->offset - line->slope * r->kept_k[i];
        r->term[i] = off[i] * off[i];
        first = r->kept_k[i] < first ? r->kept_k[i] : first;
        last = r->kept_k[i] > last ? r->kept_k[i] : last;
    }
    line->variance = sum(r->term, n) / (double)(n - 2);
    const double centre = sum(r->kept_k, n) / (double)n;
    for (size_t i = 0; i < n; i++) {
        const double y = 2 * (r->kept_k[i] - centre) / (last - first);
        legendre[i] = 1.5 * y * y - 0.5;
    }
    const double mean = sum(legendre, n) / (double)n;
    for (size_t i = 0; i < n; i++) {
        legendre[i] -= mean;
        r->term[i] = legendre[i] * legendre[i];
    }
    const double norm = sum(r->term, n);
    for (size_t i = 0; i < n; i++) {
        r->term[i] = legendre[i] * off[i];
    }
    const double coefficient = sum(r->term, n) / norm;
    line->bend = norm == 0 ? 0.0 : (coefficient * coefficient * norm - line->variance) / (double)n;
}

int qk_line_fit(struct qk_line *line, const int64_t *ticks, size_t n, int64_t tick, double period, double least)
{
    struct line_room room;
    struct qk_line found = {.kept = 0};
    if (n > MOST) {
        return QK_NO_ROOM;
    }
    if (n >= LEAST) {
        number(&room, ticks, n, tick, period);
        memcpy(room.term, room.residual, n * sizeof *room.term);
        found.offset = median(room.term, n);
        memset(room.keep, 2, n);
        int good = 1;
        for (int pass = 0; good && pass < PASSES && choose(&room, n, &found, least); pass++) {
            good = fit(&room, &found);
        }
        if (good) {
            spread(&room, &found);
        } else {
            found.kept = 0;
        }
    }
    memcpy(line, &found, sizeof found);
    return QK_OK;
}

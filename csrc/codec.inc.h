/* Golomb-Rice codes of gaps, docs/formats/wire.md, the body of every tier; test64, bytes64 as for bits.inc.h.
 *
 * Sections: k (1 byte), the number of long quotients (4), unary quotients, long quotients (8 each), k bit planes. */

enum { GAP_BLOCK = 64, GAP_HEADER = 5, MAX_K = 32, ESCAPE = 48 };

/* A first guess of the number of bits of the median: that of the mean of some gaps. */
QK_INLINE int guess_bits(const int64_t *gaps, size_t n)
{
    enum { SOME = 64 };
    uint64_t sum = 0;
    for (size_t i = 0; i < SOME; i++) {
        sum += (uint64_t)bits_load(gaps + i * (n - 1) / SOME) / SOME;
    }
    int bits = 1;
    while (bits < MAX_K && sum >> bits) {
        bits++;
    }
    return bits;
}

/* How many bits the median has (the mean of two for an even number of gaps, without its fraction), at most MAX_K. */
static int bits_of_median(const int64_t *gaps, size_t n)
{
    const size_t middle = n / 2;
    int bits = guess_bits(gaps, n);
    uint64_t below_half;
    for (;;) {
        const int64_t limit = (int64_t)1 << bits;
        uint64_t below = 0;
        below_half = 0;
        for (size_t i = 0; i < n; i++) {
            const int64_t gap = bits_load(gaps + i);
            below += gap < limit;
            below_half += gap < limit / 2;
        }
        if (below <= middle) {
            if (++bits > MAX_K) {
                return MAX_K;
            }
        } else if (below_half > middle) {
            if (--bits == 0) {
                return 0;
            }
        } else {
            break;
        }
    }
    if (n % 2 || below_half < middle) {
        return bits;
    }
    /* Of the two in the middle one is below 2^(bits - 1), the other is not. */
    const int64_t edge = (int64_t)1 << (bits - 1);
    int64_t lower = 0, upper = INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        const int64_t gap = bits_load(gaps + i);
        lower = gap < edge && gap > lower ? gap : lower;
        upper = gap >= edge && gap < upper ? gap : upper;
    }
    return (lower + upper) / 2 >= edge ? bits : bits - 1;
}

/* Unary bits and long quotients for one parameter. */
typedef struct {
    uint64_t n_unary, n_long;
} gap_cost;

QK_INLINE gap_cost add_cost(gap_cost cost, const int64_t *gaps, size_t n, int k)
{
    uint64_t n_unary = cost.n_unary, n_long = cost.n_long;
    for (size_t i = 0; i < n; i++) {
        const int64_t quotient = bits_load(gaps + i) >> k;
        n_unary += (uint64_t)(quotient < ESCAPE ? quotient : ESCAPE);
        n_long += quotient >= ESCAPE;
    }
    return (gap_cost){n_unary + n, n_long};
}

/* The parameter near the median with the shortest code, the smallest of equals. */
static int best_parameter(gap_cost *best, const int64_t *gaps, size_t n)
{
    enum { TRIED = 4, PART = 1024 };
    const int guess = bits_of_median(gaps, n), first = guess > 2 ? guess - 2 : 0;
    const int n_tried = (guess < MAX_K ? guess + 1 : MAX_K) - first + 1;
    gap_cost costs[TRIED] = {{0, 0}};
    for (size_t at = 0; at < n; at += PART) {
        const size_t n_here = n - at < PART ? n - at : PART;
        for (int i = 0; i < n_tried; i++) {
            costs[i] = add_cost(costs[i], gaps + at, n_here, first + i);
        }
    }
    int chosen = 0;
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < n_tried; i++) {
        const uint64_t bits = (uint64_t)n * (uint64_t)(first + i) + costs[i].n_unary + 64 * costs[i].n_long;
        if (bits < least) {
            least = bits;
            chosen = i;
        }
    }
    *best = costs[chosen];
    return first + chosen;
}

/* Unary section and long quotients. */
static void encode_quotients(uint8_t *unary, uint8_t *longs, const int64_t *gaps, size_t n, int k)
{
    uint64_t word = 0;
    unsigned at = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t quotient = (uint64_t)bits_load(gaps + i) >> k;
        if (quotient >= ESCAPE) {
            qk_store64(longs, quotient);
            longs += sizeof quotient;
            quotient = ESCAPE;
        }
        at += (unsigned)quotient;
        if (at >= 64) {
            qk_store64(unary, word);
            unary += sizeof word;
            word = 0;
            at -= 64;
        }
        word |= (uint64_t)1 << at;
        if (++at == 64) {
            qk_store64(unary, word);
            unary += sizeof word;
            word = 0;
            at = 0;
        }
    }
    memcpy(unary, &word, (at + 7) / 8);
}

/* Bit i of 64 gaps to plane i. */
QK_INLINE void encode_planes(uint8_t *planes, size_t plane_bytes, size_t n_bytes, const int64_t *gaps, int k)
{
    uint8_t bytes[GAP_BLOCK];
    for (int first = 0; first < k; first += 8) {
        for (int i = 0; i < GAP_BLOCK; i++) {
            bytes[i] = (uint8_t)(bits_load(gaps + i) >> first);
        }
        for (int j = first; j < k && j < first + 8; j++) {
            const uint64_t word = test64(bytes, (uint8_t)(1 << (j - first)));
            memcpy(planes + (size_t)j * plane_bytes, &word, n_bytes);
        }
    }
}

static int encode(uint8_t *out, size_t capacity, uint64_t *n_bytes, const int64_t *gaps, size_t n)
{
    gap_cost cost;
    const int k = best_parameter(&cost, gaps, n);
    const size_t unary_bytes = (size_t)(cost.n_unary + 7) / 8, plane_bytes = (n + 7) / 8;
    const size_t longs_at = GAP_HEADER + unary_bytes, planes_at = longs_at + 8 * (size_t)cost.n_long;
    const size_t size = planes_at + (size_t)k * plane_bytes;
    if (size > capacity || cost.n_long > UINT32_MAX) {
        return QK_NO_ROOM;
    }
    out[0] = (uint8_t)k;
    qk_store32(out + 1, (uint32_t)cost.n_long);
    encode_quotients(out + GAP_HEADER, out + longs_at, gaps, n, k);
    const size_t n_whole = n / GAP_BLOCK, n_rest = n % GAP_BLOCK;
    for (size_t b = 0; b < n_whole; b++) {
        encode_planes(out + planes_at + 8 * b, plane_bytes, 8, gaps + GAP_BLOCK * b, k);
    }
    int64_t rest[GAP_BLOCK] = {0};
    memcpy(rest, gaps + GAP_BLOCK * n_whole, n_rest * sizeof *rest);
    encode_planes(out + planes_at + 8 * n_whole, plane_bytes, (n_rest + 7) / 8, rest, k);
    qk_store64(n_bytes, size);
    return QK_OK;
}

/* The sections of a code whose header has been found to fit its length. */
typedef struct {
    const uint8_t *unary, *longs, *planes;
    size_t n_unary, n_long, plane_bytes;
    int k;
} gap_code;

static int read_header(gap_code *code, const uint8_t *bytes, size_t n_bytes, size_t n)
{
    if (n_bytes < GAP_HEADER || bytes[0] > MAX_K) {
        return QK_CODE_TRUNCATED;
    }
    code->k = bytes[0];
    code->n_long = qk_load32(bytes + 1);
    code->plane_bytes = n / 8 + (n % 8 != 0);
    const size_t left = n_bytes - GAP_HEADER;
    if (code->n_long > n || code->n_long > left / 8 || (code->k && code->plane_bytes > left / (size_t)code->k)) {
        return QK_CODE_TRUNCATED;
    }
    const size_t fixed = 8 * code->n_long + (size_t)code->k * code->plane_bytes;
    if (fixed >= left) {
        return QK_CODE_TRUNCATED;
    }
    code->n_unary = left - fixed;
    code->unary = bytes + GAP_HEADER;
    code->longs = code->unary + code->n_unary;
    code->planes = code->longs + 8 * code->n_long;
    return QK_OK;
}

/* Where a walk over the ones of the unary section is: what is left of a word, where it begins, how much follows. */
typedef struct {
    uint64_t word;
    const uint8_t *next;
    size_t n_left;
    int64_t at, last;
} unary_walk;

QK_INLINE void next_word(unary_walk *walk)
{
    const size_t n = walk->n_left < 8 ? walk->n_left : 8;
    walk->word = n == 8 ? qk_load64(walk->next) : bits_load_part(walk->next, n);
    walk->next += n;
    walk->n_left -= n;
    walk->at += 64;
}

/* The remainders of up to 64 gaps; 0 unless the padding of the planes is zero. */
QK_INLINE int decode_remainders(uint32_t *remainders, const gap_code *code, size_t block, size_t n_here)
{
    uint8_t bytes[GAP_BLOCK];
    uint64_t words[MAX_K], padding = 0;
    const size_t n_bytes = (n_here + 7) / 8;
    for (int j = 0; j < code->k; j++) {
        const uint8_t *from = code->planes + (size_t)j * code->plane_bytes + 8 * block;
        words[j] = n_bytes == 8 ? qk_load64(from) : bits_load_part(from, n_bytes);
        padding |= words[j];
    }
    memset(remainders, 0, GAP_BLOCK * sizeof *remainders);
    for (int first = 0; first < code->k; first += 8) {
        bytes64(bytes, words + first, code->k - first < 8 ? (unsigned)(code->k - first) : 8);
        for (int i = 0; i < GAP_BLOCK; i++) {
            remainders[i] |= (uint32_t)bytes[i] << first;
        }
    }
    return n_here == GAP_BLOCK || !(padding >> n_here);
}

static int decode(int64_t *positions, size_t n, const uint8_t *bytes, size_t n_bytes, int64_t limit)
{
    gap_code code;
    const int status = read_header(&code, bytes, n_bytes, n);
    if (status != QK_OK) {
        return status;
    }
    unary_walk walk = {0, code.unary, code.n_unary, -64, -1};
    const uint8_t *longs = code.longs;
    const uint64_t largest = (uint64_t)limit >> code.k;
    int64_t position = -1;
    for (size_t first = 0; first < n; first += GAP_BLOCK) {
        uint32_t remainders[GAP_BLOCK];
        const size_t n_here = n - first < GAP_BLOCK ? n - first : GAP_BLOCK;
        if (!decode_remainders(remainders, &code, first / GAP_BLOCK, n_here)) {
            return QK_CODE_PADDING;
        }
        for (size_t i = 0; i < n_here; i++) {
            while (!walk.word) {
                if (!walk.n_left) {
                    return QK_CODE_UNARY;
                }
                next_word(&walk);
            }
            const int64_t at = walk.at + __builtin_ctzll(walk.word);
            uint64_t quotient = (uint64_t)(at - walk.last - 1);
            walk.word &= walk.word - 1;
            walk.last = at;
            if (quotient >= ESCAPE) {
                if (quotient > ESCAPE || longs == code.planes) {
                    return QK_CODE_LONG;
                }
                quotient = qk_load64(longs);
                longs += 8;
                if (quotient < ESCAPE || quotient > largest) {
                    return QK_CODE_LONG;
                }
            }
            position += (int64_t)(quotient << code.k) + remainders[i] + 1;
            if (position > limit) {
                return QK_CODE_LIMIT;
            }
            bits_store(positions + first + i, position);
        }
    }
    if (walk.word || (size_t)walk.last / 8 != code.n_unary - 1) {
        return QK_CODE_UNARY;
    }
    return longs == code.planes ? QK_OK : QK_CODE_LONG;
}

/* Toeplitz hash by an additive Fourier transform over GF(2^64).
 *
 * The tier's file defines V (a vector of VL = 2^LOG_VL words), the operations on it, and TIER(name).
 *
 * Notation and proof: docs/notes/toeplitz.md. In short: key and seed are cut into pieces of 32 bits, the
 * coefficients of polynomials over GF(2^64). The hash is the middle of their product. A middle product is the
 * transpose of a product, so it is computed by the transposes of the steps of a product: change of basis,
 * transform, pointwise product, inverse transform, change back. Points are the first 2^m elements in the order
 * of the Cantor basis; element number i is the sum of the v_j with bit j set in i.
 *
 * Transforms run depth first, two levels to a pass. The last 2 LOG_VL levels happen in registers: a tile of VL
 * vectors, turned half-way so that neighbours lie in different vectors. */

#include "toeplitz_basis.inc.h"

enum { TILE_LOG = 2 * LOG_VL, TILE = 1 << TILE_LOG, WIDEN_RUN = 16 };

/* The steps on a pair (a, b) with twiddle w. */
enum step {
    FORWARD,            /* a += w b, b += a: evaluation, top level first */
    INVERSE_TRANSPOSED, /* b += w a, a += b: transpose of interpolation, top level first */
    FORWARD_TRANSPOSED  /* a += b, b += w a: transpose of evaluation, bottom level first */
};

typedef struct {
    const uint64_t *tables;
    /* lanes[i]: element (q << (LOG_VL - 1 - i)) * 2 in lane q, for level i of the turned tile. */
    V lanes[LOG_VL + 1];
} plan;

QK_INLINE void butterfly(enum step step, V *a, V *b, V w)
{
    if (step == FORWARD) {
        *a = v_xor(*a, v_mul(*b, w));
        *b = v_xor(*b, *a);
    } else if (step == INVERSE_TRANSPOSED) {
        *b = v_xor(*b, v_mul(*a, w));
        *a = v_xor(*a, *b);
    } else {
        *a = v_xor(*a, *b);
        *b = v_xor(*b, v_mul(*a, w));
    }
}

/* The same with w = 0. */
QK_INLINE void butterfly_plain(enum step step, V *a, V *b)
{
    if (step == FORWARD) {
        *b = v_xor(*b, *a);
    } else {
        *a = v_xor(*a, *b);
    }
}

/* Twiddle of block number b of a level: element 2 b, independent of the level. Looked up by public numbers. */
QK_INLINE uint64_t twiddle(const plan *p, size_t b)
{
    const size_t n = (size_t)1 << TOEPLITZ_TABLE_BITS, mask = n - 1;
    return p->tables[b & mask] ^ p->tables[n + ((b >> TOEPLITZ_TABLE_BITS) & mask)] ^
           p->tables[2 * n + ((b >> (2 * TOEPLITZ_TABLE_BITS)) & mask)];
}

static void make_plan(plan *p, uint64_t *tables)
{
    for (int t = 0; t < TOEPLITZ_TABLES; t++) {
        uint64_t *table = tables + ((size_t)t << TOEPLITZ_TABLE_BITS);
        table[0] = 0;
        for (int j = 0; j < TOEPLITZ_TABLE_BITS; j++) {
            const int index = t * TOEPLITZ_TABLE_BITS + j + 1;
            const uint64_t v = index < TOEPLITZ_MAX_LOG_POINTS ? toeplitz_cantor[index] : 0;
            for (size_t i = 0; i < (size_t)1 << j; i++) {
                table[((size_t)1 << j) + i] = table[i] ^ v;
            }
        }
    }
    p->tables = tables;
    for (int i = 0; i < LOG_VL; i++) {
        uint64_t lane[VL];
        for (size_t q = 0; q < VL; q++) {
            lane[q] = tables[q << (LOG_VL - 1 - i)];
        }
        p->lanes[i] = v_load(lane);
    }
}

/* Two levels at once: four quarters of `quarter` elements, twiddles w1 for the upper level, w2 and w3 below. */
QK_INLINE void pass4(enum step step, uint64_t *a, size_t quarter, V w1, V w2, V w3, int plain)
{
    for (size_t i = 0; i < quarter; i += VL) {
        V x0 = v_load(a + i), x1 = v_load(a + i + quarter);
        V x2 = v_load(a + i + 2 * quarter), x3 = v_load(a + i + 3 * quarter);
        for (int half = 0; half < 2; half++) {
            const int upper = half == (step == FORWARD_TRANSPOSED);
            if (upper && plain) {
                butterfly_plain(step, &x0, &x2);
                butterfly_plain(step, &x1, &x3);
            } else if (upper) {
                butterfly(step, &x0, &x2, w1);
                butterfly(step, &x1, &x3, w1);
            } else {
                if (plain) {
                    butterfly_plain(step, &x0, &x1);
                } else {
                    butterfly(step, &x0, &x1, w2);
                }
                butterfly(step, &x2, &x3, w3);
            }
        }
        v_store(a + i, x0);
        v_store(a + i + quarter, x1);
        v_store(a + i + 2 * quarter, x2);
        v_store(a + i + 3 * quarter, x3);
    }
}

/* One or two levels above the children of the node of 2^m elements that begins at point c. */
QK_INLINE void pass(enum step step, const plan *p, uint64_t *a, size_t c, int m, int levels)
{
    const size_t n = (size_t)1 << m;
    if (levels == 1) {
        const V w = v_set1(twiddle(p, c >> m));
        for (size_t i = 0; i < n / 2; i += VL) {
            V x = v_load(a + i), y = v_load(a + i + n / 2);
            butterfly(step, &x, &y, w);
            v_store(a + i, x);
            v_store(a + i + n / 2, y);
        }
        return;
    }
    const uint64_t w2 = twiddle(p, c >> (m - 1));
    const V w3 = v_set1(w2 ^ toeplitz_cantor[1]);
    if (c == 0) {
        pass4(step, a, n / 4, v_zero(), v_zero(), w3, 1);
    } else {
        pass4(step, a, n / 4, v_set1(twiddle(p, c >> m)), v_set1(w2), w3, 0);
    }
}

/* Levels of a tile whose pairs lie in different vectors: from LOG_VL to 2 LOG_VL - 1, one twiddle to a block. */
QK_INLINE void tile_level(enum step step, const plan *p, V r[VL], size_t c, int level)
{
    const size_t distance = (size_t)1 << (level - LOG_VL);
    const uint64_t w = twiddle(p, c >> (level + 1));
#pragma GCC unroll 8
    for (size_t j = 0; j < VL; j++) {
        if (!(j & distance)) {
            const size_t block = j >> (level - LOG_VL + 1);
            butterfly(step, &r[j], &r[j + distance], v_set1(w ^ p->tables[block]));
        }
    }
}

/* Levels 0 to LOG_VL - 1, in the turned tile: lane q of vector j is element q VL + j, so twiddles differ by lane. */
QK_INLINE void turned_level(enum step step, const plan *p, V r[VL], size_t c, int level)
{
    const size_t distance = (size_t)1 << level;
    const V w = v_xor(v_set1(twiddle(p, c >> (level + 1))), p->lanes[level]);
#pragma GCC unroll 8
    for (size_t j = 0; j < VL; j++) {
        if (!(j & distance)) {
            butterfly(step, &r[j], &r[j + distance], v_xor(w, v_set1(p->tables[j >> (level + 1)])));
        }
    }
}

QK_INLINE void tile_down(enum step step, const plan *p, V r[VL], size_t c)
{
#pragma GCC unroll 8
    for (int level = TILE_LOG - 1; level >= LOG_VL; level--) {
        tile_level(step, p, r, c, level);
    }
    v_turn(r);
#pragma GCC unroll 8
    for (int level = LOG_VL - 1; level >= 0; level--) {
        turned_level(step, p, r, c, level);
    }
}

QK_INLINE void tile_up(enum step step, const plan *p, V r[VL], size_t c)
{
#pragma GCC unroll 8
    for (int level = 0; level < LOG_VL; level++) {
        turned_level(step, p, r, c, level);
    }
    v_turn(r);
#pragma GCC unroll 8
    for (int level = LOG_VL; level < TILE_LOG; level++) {
        tile_level(step, p, r, c, level);
    }
}

/* Evaluates a polynomial in the novel basis at the 2^m points from c on; tiles stay turned. */
static void evaluate(const plan *p, uint64_t *a, size_t c, int m)
{
    if (m == TILE_LOG) {
        V r[VL];
        for (size_t j = 0; j < VL; j++) {
            r[j] = v_load(a + j * VL);
        }
        tile_down(FORWARD, p, r, c);
        for (size_t j = 0; j < VL; j++) {
            v_store(a + j * VL, r[j]);
        }
        return;
    }
    const int levels = (m - TILE_LOG) & 1 ? 1 : 2;
    const size_t child = (size_t)1 << (m - levels);
    pass(FORWARD, p, a, c, m, levels);
    for (size_t i = 0; i < (size_t)1 << levels; i++) {
        evaluate(p, a + i * child, c + i * child, m - levels);
    }
}

/* The transpose of: evaluate, multiply by `values` (in the order of `evaluate`), interpolate. */
static void multiply_transposed(const plan *p, uint64_t *a, const uint64_t *values, size_t c, int m)
{
    if (m == TILE_LOG) {
        V r[VL];
        for (size_t j = 0; j < VL; j++) {
            r[j] = v_load(a + j * VL);
        }
        tile_down(INVERSE_TRANSPOSED, p, r, c);
        for (size_t j = 0; j < VL; j++) {
            r[j] = v_mul(r[j], v_load(values + j * VL));
        }
        tile_up(FORWARD_TRANSPOSED, p, r, c);
        for (size_t j = 0; j < VL; j++) {
            v_store(a + j * VL, r[j]);
        }
        return;
    }
    const int levels = (m - TILE_LOG) & 1 ? 1 : 2;
    const size_t child = (size_t)1 << (m - levels);
    pass(INVERSE_TRANSPOSED, p, a, c, m, levels);
    for (size_t i = 0; i < (size_t)1 << levels; i++) {
        multiply_transposed(p, a + i * child, values + i * child, c + i * child, m - levels);
    }
    pass(FORWARD_TRANSPOSED, p, a, c, m, levels);
}

/* Three quarters of 4 h points, h = 2^(m - 2), are the first 2 h and the coset of h behind them, on which s_(m-1) is 1
 * and s_(m-2) is w = v_1. What is evaluated there: a2 += a0 + w a1. */
static void extend(uint64_t *a, size_t h)
{
    const V w = v_set1(toeplitz_cantor[1]);
    for (size_t i = 0; i < h; i += VL) {
        const V low = v_xor(v_load(a + i), v_load(a + 2 * h + i));
        v_store(a + 2 * h + i, v_xor(low, v_mul(v_load(a + h + i), w)));
    }
}

/* The transpose: a0 += a2, a1 += w a2. */
static void extend_transposed(uint64_t *a, size_t h)
{
    const V w = v_set1(toeplitz_cantor[1]);
    for (size_t i = 0; i < h; i += VL) {
        const V last = v_load(a + 2 * h + i);
        v_store(a + i, v_xor(v_load(a + i), last));
        v_store(a + h + i, v_xor(v_load(a + h + i), v_mul(last, w)));
    }
}

/* Pieces of 32 bits become words, from the lower addresses on or from the higher ones. */
QK_INLINE void widen_run(uint64_t *to, const u32 *from, size_t i)
{
    uint32_t run[WIDEN_RUN];
    memcpy(run, from + i, sizeof run);
    for (size_t j = 0; j < WIDEN_RUN; j++) {
        to[i + j] = run[j];
    }
}

/* Pieces of 32 bits, as many as fill 2^m / 2 words, before they become words. They end where the n words do. */
QK_INLINE u32 *narrow_part(uint64_t *a, size_t n) { return (u32 *)(a + n - ((size_t)1 << log2_ceil(n)) / 2); }

/* n pieces from `narrow_part` on become words, in place: what is read has not been written, as the first 2^m / 2 go
 * upwards and the others downwards. */
QK_INLINE void widen(uint64_t *a, size_t n)
{
    const size_t power = (size_t)1 << log2_ceil(n), upwards = n < power ? power / 2 : n;
    const u32 *narrow = narrow_part(a, n);
    for (size_t i = 0; i < upwards; i += WIDEN_RUN) {
        widen_run(a, narrow, i);
    }
    for (size_t i = n; i > upwards; i -= WIDEN_RUN) {
        widen_run(a, narrow, i - WIDEN_RUN);
    }
}

/* Piece i is piece n_pieces - 1 - i of the key, without what lies behind its last bit; then evaluated at all points. */
static void transform_key(const plan *p, uint64_t *a, size_t n, const uint64_t *key, size_t n_bits, uint64_t *block)
{
    const int m = log2_ceil(n);
    const size_t n_pieces = pieces(n_bits, 32);
    u32 *narrow = narrow_part(a, n);
    for (size_t i = 0; i < n_pieces; i++) {
        narrow[i] = qk_load32((const uint8_t *)key + 4 * (n_pieces - 1 - i));
    }
    narrow[0] &= UINT32_MAX >> (32 * n_pieces - n_bits);
    memset(narrow + n_pieces, 0, 4 * (((size_t)1 << m) - n_pieces));
    change_basis(TO_NOVEL, narrow, log2_ceil(n_pieces), 1, block);
    widen(a, n);
    if (n >> m) {
        evaluate(p, a, 0, m);
    } else {
        extend(a, n / 3);
        evaluate(p, a, 0, m - 1);
        evaluate(p, a + n / 3 * 2, n / 3 * 2, m - 2);
    }
}

/* The seed shifted up by 1 to 32 bits, in pieces, and the transpose of the change back from the novel basis. */
static void prepare_seed(uint64_t *a, size_t n, const uint64_t *seed, size_t seed_bits, size_t shift, uint64_t *block)
{
    const int m = log2_ceil(n);
    const size_t n_words = pieces(seed_bits, 64), room = ((size_t)1 << m) / 2;
    uint64_t *narrow = a + n - room;
    uint64_t before = 0;
    for (size_t i = 0; i < n_words; i++) {
        const uint64_t word = qk_load64(seed + i);
        narrow[i] = word << shift | before >> (64 - shift);
        before = word;
    }
    memset(narrow + n_words, 0, (room - n_words) * sizeof *narrow);
    if (n_words < room) {
        narrow[n_words] = before >> (64 - shift);
    }
    change_basis(FROM_NOVEL_TRANSPOSED, (u32 *)narrow, m, 1, block);
    widen(a, n);
}

/* The middle product of the n coefficients and the polynomial with these values. */
static void multiply(const plan *p, uint64_t *a, const uint64_t *values, size_t n)
{
    const int m = log2_ceil(n);
    if (n >> m) {
        multiply_transposed(p, a, values, 0, m);
        return;
    }
    const size_t coset = n / 3 * 2;
    extend_transposed(a, n / 3);
    multiply_transposed(p, a, values, 0, m - 1);
    multiply_transposed(p, a + coset, values + coset, coset, m - 2);
    extend_transposed(a, n / 3);
}

/* Adds up coefficients, 32 bits apart: output piece i is the low half of D[i + 1] plus the high half of D[i]. */
static void collect(uint64_t *out, size_t out_bits, const uint64_t *d)
{
    const size_t n_words = pieces(out_bits, 64);
    for (size_t i = 0; i < n_words; i++) {
        const uint64_t low = (d[2 * i + 1] ^ d[2 * i] >> 32) & UINT32_MAX;
        const uint64_t high = d[2 * i + 2] ^ d[2 * i + 1] >> 32;
        qk_store64(out + i, low | high << 32);
    }
    if (out_bits & 63) {
        qk_store64(out + n_words - 1, qk_load64(out + n_words - 1) & (((uint64_t)1 << (out_bits & 63)) - 1));
    }
}

void TIER(toeplitz_fft)(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                        uint64_t *scratch)
{
    const size_t key_pieces = pieces(n_bits, 32), out_pieces = pieces(out_bits, 32) + 1;
    const size_t n = toeplitz_points(n_bits, out_bits);
    /* The last change of basis needs a power of two: it may overwrite the values, which are no longer needed. */
    uint64_t *a = scratch, *values = a + n, *block = values + n;
    plan p;
    make_plan(&p, block + TOEPLITZ_BLOCK_WORDS);
    transform_key(&p, values, n, key, n_bits, block);
    prepare_seed(a, n, seed, n_bits + out_bits - 1, 32 * key_pieces - n_bits + 1, block);
    multiply(&p, a, values, n);
    change_basis(TO_NOVEL_TRANSPOSED, (u32 *)a, log2_ceil(out_pieces), 2, block);
    collect(out, out_bits, a);
    qk_wipe(scratch, (2 * n + TOEPLITZ_BLOCK_WORDS) * sizeof *scratch);
}

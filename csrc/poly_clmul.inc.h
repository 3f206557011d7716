/* Horner's rule with carry-less multiplication instructions, aggregated reduction and LANES blocks to a vector.
 *
 * The tier's file defines P (a vector of LANES elements), the operations on it, and HORNER (the function's name).
 *
 * Let s = LANES. Blocks are read as rows of s. The state is a row as well: lane j holds the Horner sum, in the
 * s-th power of the key, of blocks j, j + s, j + 2s ... A step takes ROWS rows X_0 ... X_{r-1} and computes
 *
 *     state = (state + X_0) k^(s r) + X_1 k^(s (r - 1)) + ... + X_{r-1} k^s
 *
 * with one reduction; the first step takes what does not fill whole ones. The key powers wait in a table, which is
 * wiped. In the end lane j is worth k^-j of lane 0. */

enum { ROWS = 8, FEW_ROWS = 4 };

/* A factor, and the sum of its halves (in both halves). */
typedef struct {
    P value, folded;
} factor;

/* An unreduced product in Karatsuba's three: of the low halves, of the high halves, of the sums of halves. */
typedef struct {
    P low, high, folded;
} wide;

QK_INLINE P fold(P a) { return p_xor(a, p_swap(a)); }

QK_INLINE factor as_factor(P a) { return (factor){a, fold(a)}; }

QK_INLINE wide nothing(void) { return (wide){p_zero(), p_zero(), p_zero()}; }

QK_INLINE void add_product(wide *sum, P a, factor b)
{
    sum->low = p_xor(sum->low, p_clmul_00(a, b.value));
    sum->high = p_xor(sum->high, p_clmul_11(a, b.value));
    sum->folded = p_xor(sum->folded, p_clmul_00(fold(a), b.folded));
}

/* Modulo x^128 + x^7 + x^2 + x + 1: 64 coefficients at a time from the top. */
QK_INLINE P reduce(wide sum)
{
    const P modulus = p_set1(0x87);
    const P top = p_clmul_01(sum.high, modulus);
    const P middle = p_xor(p_xor(sum.folded, top), p_xor(sum.low, sum.high));
    const P high = p_xor(sum.high, p_high_to_low(middle));
    const P low = p_xor(sum.low, p_low_to_high(middle));
    return p_xor(low, p_clmul_00(high, modulus));
}

QK_INLINE P multiply(P a, factor b)
{
    wide sum = nothing();
    add_product(&sum, a, b);
    return reduce(sum);
}

/* n rows, 1 <= n <= ROWS, under one reduction; powers[i] is k^(s (i + 1)). */
QK_INLINE P step(P value, const factor *powers, const uint8_t *at, const size_t n)
{
    wide sum = nothing();
    add_product(&sum, p_xor(value, p_load(at)), powers[n - 1]);
    for (size_t i = 1; i < n; i++) {
        add_product(&sum, p_load(at + i * sizeof(P)), powers[n - 1 - i]);
    }
    return reduce(sum);
}

/* Whole rows: every lane on its own, in powers of k^LANES. */
QK_INLINE P horner_rows(P value, factor stride, const uint8_t *at, size_t n_rows)
{
    if (n_rows < FEW_ROWS) {
        for (size_t i = 0; i < n_rows; i++) {
            value = multiply(p_xor(value, p_load(at + i * sizeof(P))), stride);
        }
        return value;
    }
    factor powers[ROWS];
    const size_t n_powers = n_rows < ROWS ? n_rows : ROWS, n_first = n_rows % ROWS;
    powers[0] = stride;
    for (size_t i = 1; i < n_powers; i++) {
        powers[i] = as_factor(multiply(powers[i / 2].value, powers[(i - 1) / 2]));
    }
    if (n_first) {
        value = step(value, powers, at, n_first);
        at += n_first * sizeof(P);
    }
    for (size_t i = n_rows / ROWS; i; i--, at += ROWS * sizeof(P)) {
        value = step(value, powers, at, ROWS);
    }
    qk_wipe(powers, sizeof powers);
    return value;
}

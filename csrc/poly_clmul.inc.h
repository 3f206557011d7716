/* Horner's rule with carry-less multiplication instructions, aggregated reduction and LANES blocks to a vector.
 *
 * The tier's file defines P (a vector of LANES elements), the operations on it, and HORNER (the function's name).
 *
 * Let s = LANES. Blocks are read as rows of s. The state is a row as well: lane j holds the Horner sum, in the
 * s-th power of the key, of blocks j, j + s, j + 2s ... A step takes ROWS rows X_0 ... X_{r-1} and computes
 *
 *     state = (state + X_0) k^(s r) + X_1 k^(s (r - 1)) + ... + X_{r-1} k^s
 *
 * with one reduction. The key powers wait in a table, which is wiped. In the end lane j is worth k^-j of lane 0. */

enum { ROWS = 8 };

/* An unreduced product: low and high halves, and the middle one that overlaps both. */
typedef struct {
    P low, middle, high;
} wide;

QK_INLINE void add_product(wide *sum, P a, P b)
{
    sum->low = p_xor(sum->low, p_clmul_00(a, b));
    sum->high = p_xor(sum->high, p_clmul_11(a, b));
    sum->middle = p_xor3(sum->middle, p_clmul_01(a, b), p_clmul_10(a, b));
}

/* Modulo x^128 + x^7 + x^2 + x + 1: 64 coefficients at a time from the top. */
QK_INLINE P reduce(wide sum)
{
    const P modulus = p_set1(0x87);
    const P fold = p_clmul_01(sum.high, modulus);
    const P middle = p_xor(sum.middle, fold);
    const P high = p_xor(sum.high, p_high_to_low(middle));
    const P low = p_xor(sum.low, p_low_to_high(middle));
    return p_xor(low, p_clmul_00(high, modulus));
}

QK_INLINE P multiply(P a, P b)
{
    wide sum = {p_zero(), p_zero(), p_zero()};
    add_product(&sum, a, b);
    return reduce(sum);
}

/* The rows that remain after whole steps, one reduction each. */
QK_INLINE P finish_rows(P value, P stride, const uint8_t *at, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++) {
        value = multiply(p_xor(value, p_load(at + i * sizeof(P))), stride);
    }
    return value;
}

/* Whole rows: every lane on its own, in powers of k^LANES. */
QK_INLINE P horner_rows(P value, P stride, const uint8_t *at, size_t n_rows)
{
    if (n_rows < 2 * ROWS) {
        return finish_rows(value, stride, at, n_rows);
    }
    P powers[ROWS];
    powers[ROWS - 1] = stride;
    for (int i = ROWS - 1; i > 0; i--) {
        powers[i - 1] = multiply(powers[i], stride);
    }
    for (; n_rows >= ROWS; n_rows -= ROWS, at += ROWS * sizeof(P)) {
        wide sum = {p_zero(), p_zero(), p_zero()};
        add_product(&sum, p_xor(value, p_load(at)), powers[0]);
        for (int i = 1; i < ROWS; i++) {
            add_product(&sum, p_load(at + (size_t)i * sizeof(P)), powers[i]);
        }
        value = reduce(sum);
    }
    qk_wipe(powers, sizeof powers);
    return finish_rows(value, stride, at, n_rows);
}

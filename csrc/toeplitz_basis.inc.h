/* Change between powers of x and the novel basis, products of the vanishing polynomials s_j of the Cantor basis.
 *
 * X_i is the product of s_j over the bits j set in i. s_(2^t) = x^k + x with k = 2^(2^t), and s_(2^t + j) is s_j of
 * s_(2^t): so an expansion in powers of x^k + x leaves two smaller changes, of the coefficients (polynomials of
 * degree below k) and across them. Only additions occur.
 *
 * The tier's file defines V, VL and the operations; elements are `size` units of 32 bits, one or two for numbers. */

typedef uint32_t __attribute__((may_alias)) u32;

enum basis {
    TO_NOVEL, /* from powers of x */
    TO_NOVEL_TRANSPOSED,
    FROM_NOVEL_TRANSPOSED
};

enum { BLOCK_LOG = 8, BLOCK = 1 << BLOCK_LOG, RUN_LOG = 4, RUN = 1 << RUN_LOG };

QK_INLINE void add(u32 *restrict to, const u32 *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] ^= from[i];
    }
}

/* A division step by s^(2^r) = x^(k 2^r) + x^(2^r), over blocks of 2 k 2^r elements: low and high halves of
 * k 2^r, the top 2^r of the high half falling back into the high half itself. */
QK_INLINE void divide(enum basis basis, u32 *a, size_t n, size_t k, size_t r, size_t size)
{
    const size_t step = size << r, half = k * step;
    for (size_t at = 0; at < n * size; at += 2 * half) {
        u32 *low = a + at, *high = low + half;
        if (basis == TO_NOVEL) {
            add(high, high + half - step, step);
            add(low + step, high, half - step);
        } else if (basis == FROM_NOVEL_TRANSPOSED) {
            add(high + half - step, high, step);
            add(high, low + step, half - step);
        } else {
            add(high, low + step, half - step);
            add(high + half - step, high, step);
        }
    }
}

/* The same for elements that are vectors; with constant arguments it becomes straight-line code. */
QK_INLINE void divide_vectors(enum basis basis, V *a, size_t n, size_t k, size_t r, size_t size)
{
    const size_t step = size << r, half = k * step;
#pragma GCC unroll 16
    for (size_t at = 0; at < n * size; at += 2 * half) {
        V *low = a + at, *high = low + half;
        if (basis == TO_NOVEL) {
#pragma GCC unroll 16
            for (size_t i = 0; i < step; i++) {
                high[i] = v_xor(high[i], high[i + half - step]);
            }
#pragma GCC unroll 16
            for (size_t i = 0; i < half - step; i++) {
                low[i + step] = v_xor(low[i + step], high[i]);
            }
            continue;
        }
        if (basis == FROM_NOVEL_TRANSPOSED) {
#pragma GCC unroll 16
            for (size_t i = 0; i < step; i++) {
                high[i + half - step] = v_xor(high[i + half - step], high[i]);
            }
        }
#pragma GCC unroll 16
        for (size_t i = 0; i < half - step; i++) {
            high[i] = v_xor(high[i], low[i + step]);
        }
        if (basis == TO_NOVEL_TRANSPOSED) {
#pragma GCC unroll 16
            for (size_t i = 0; i < step; i++) {
                high[i + half - step] = v_xor(high[i + half - step], high[i]);
            }
        }
    }
}

/* 16 vectors, `stride` apart, in registers. */
QK_INLINE void change_run(enum basis basis, V *a, size_t stride)
{
    V e[RUN];
#pragma GCC unroll 16
    for (size_t i = 0; i < RUN; i++) {
        e[i] = a[i * stride];
    }
    if (basis == TO_NOVEL_TRANSPOSED) {
        divide_vectors(basis, e, 4, 2, 0, 4);
        divide_vectors(basis, e, 16, 2, 0, 1);
        divide_vectors(basis, e, 16, 4, 0, 1);
        divide_vectors(basis, e, 16, 4, 1, 1);
    } else {
        divide_vectors(basis, e, 16, 4, 1, 1);
        divide_vectors(basis, e, 16, 4, 0, 1);
        divide_vectors(basis, e, 16, 2, 0, 1);
        divide_vectors(basis, e, 4, 2, 0, 4);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < RUN; i++) {
        a[i * stride] = e[i];
    }
}

/* 256 vectors, every lane a block of its own. */
QK_INLINE void change_block(enum basis basis, V *a)
{
    if (basis != TO_NOVEL_TRANSPOSED) {
        divide_vectors(basis, a, BLOCK, RUN, 3, 1);
        divide_vectors(basis, a, BLOCK, RUN, 2, 1);
        divide_vectors(basis, a, BLOCK, RUN, 1, 1);
        divide_vectors(basis, a, BLOCK, RUN, 0, 1);
    }
    for (size_t i = 0; i < RUN; i++) {
        change_run(basis, a + i * RUN, 1);
    }
    for (size_t i = 0; i < RUN; i++) {
        change_run(basis, a + i, RUN);
    }
    if (basis == TO_NOVEL_TRANSPOSED) {
        divide_vectors(basis, a, BLOCK, RUN, 0, 1);
        divide_vectors(basis, a, BLOCK, RUN, 1, 1);
        divide_vectors(basis, a, BLOCK, RUN, 2, 1);
        divide_vectors(basis, a, BLOCK, RUN, 3, 1);
    }
}

/* Words at..at + VL - 1 of up to VL blocks, turned: vector i holds word at + i of every block. */
QK_INLINE void load_turned(V r[VL], const uint64_t *a, size_t at, size_t block_words, size_t n_blocks)
{
    for (size_t j = 0; j < VL; j++) {
        r[j] = j < n_blocks ? v_load(a + j * block_words + at) : v_zero();
    }
    v_turn(r);
}

QK_INLINE void store_turned(V r[VL], uint64_t *a, size_t at, size_t block_words, size_t n_blocks)
{
    v_turn(r);
    for (size_t j = 0; j < VL && j < n_blocks; j++) {
        v_store(a + j * block_words + at, r[j]);
    }
}

/* Up to VL blocks of 256 elements of 64 bits. */
QK_INLINE void change_wide_blocks(enum basis basis, uint64_t *a, size_t n_blocks, V *block)
{
    for (size_t at = 0; at < BLOCK; at += VL) {
        load_turned(block + at, a, at, BLOCK, n_blocks);
    }
    change_block(basis, block);
    for (size_t at = 0; at < BLOCK; at += VL) {
        store_turned(block + at, a, at, BLOCK, n_blocks);
    }
}

/* Up to 2 VL blocks of 256 elements of 32 bits: the second half of the blocks goes to the upper halves of the lanes. */
QK_INLINE void change_narrow_blocks(enum basis basis, uint64_t *a, size_t n_blocks, V *block)
{
    enum { WORDS = BLOCK / 2 };
    const size_t n_first = n_blocks < VL ? n_blocks : VL, n_second = n_blocks - n_first;
    V first[VL], second[VL];
    for (size_t at = 0; at < WORDS; at += VL) {
        load_turned(first, a, at, WORDS, n_first);
        load_turned(second, a + VL * WORDS, at, WORDS, n_second);
        for (size_t i = 0; i < VL; i++) {
            block[2 * (at + i)] = v_low_halves(first[i], second[i]);
            block[2 * (at + i) + 1] = v_high_halves(first[i], second[i]);
        }
    }
    change_block(basis, block);
    for (size_t at = 0; at < WORDS; at += VL) {
        for (size_t i = 0; i < VL; i++) {
            first[i] = v_low_halves(block[2 * (at + i)], block[2 * (at + i) + 1]);
            second[i] = v_high_halves(block[2 * (at + i)], block[2 * (at + i) + 1]);
        }
        store_turned(first, a, at, WORDS, n_first);
        store_turned(second, a + VL * WORDS, at, WORDS, n_second);
    }
}

/* Neighbouring blocks of 256 numbers, several at a time. */
QK_INLINE void change_blocks(enum basis basis, u32 *a, size_t n_blocks, size_t size, V *block)
{
    const size_t group = size == 2 ? VL : 2 * VL;
    for (size_t i = 0; i < n_blocks; i += group) {
        const size_t n = n_blocks - i < group ? n_blocks - i : group;
        uint64_t *at = (uint64_t *)(void *)(a + i * BLOCK * size);
        if (size == 2) {
            change_wide_blocks(basis, at, n, block);
        } else {
            change_narrow_blocks(basis, at, n, block);
        }
    }
}

/* 2^m elements: expansion in s = x^k + x with k = 2^(2^t) the largest that is smaller, then both parts alone. */
QK_INLINE void change_part(enum basis basis, u32 *a, int m, size_t size, uint64_t *block,
                           void (*part)(enum basis, u32 *, int, size_t, uint64_t *))
{
    int t = 0;
    while (2 << t < m) {
        t++;
    }
    const int low = 1 << t, rest = m - low;
    const size_t n = (size_t)1 << m, k = (size_t)1 << low;
    if (basis != TO_NOVEL_TRANSPOSED) {
        for (int r = rest - 1; r >= 0; r--) {
            divide(basis, a, n, k, (size_t)r, size);
        }
    }
    if (low == BLOCK_LOG && size <= 2) {
        change_blocks(basis, a, n / k, size, (V *)(void *)block);
    } else {
        for (size_t i = 0; i < n; i += k) {
            part(basis, a + i * size, low, size, block);
        }
    }
    part(basis, a, rest, size * k, block);
    if (basis == TO_NOVEL_TRANSPOSED) {
        for (int r = 0; r < rest; r++) {
            divide(basis, a, n, k, (size_t)r, size);
        }
    }
}

/* The change of 2^m elements; `block` has room for 256 vectors. */
static void change_basis(enum basis basis, u32 *a, int m, size_t size, uint64_t *block)
{
    if (m < 2) {
        return;
    }
    if (basis == TO_NOVEL) {
        change_part(TO_NOVEL, a, m, size, block, change_basis);
    } else if (basis == TO_NOVEL_TRANSPOSED) {
        change_part(TO_NOVEL_TRANSPOSED, a, m, size, block, change_basis);
    } else {
        change_part(FROM_NOVEL_TRANSPOSED, a, m, size, block, change_basis);
    }
}

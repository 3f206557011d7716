/* Toeplitz hash: sizes that every tier agrees on. Notation and proof: docs/notes/toeplitz.md. */
#ifndef TOEPLITZ_H
#define TOEPLITZ_H

#include "qk_internal.h"

/* Scratch begins at a cache line. */
typedef void toeplitz_function(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits,
                               const uint64_t *seed, uint64_t *scratch);

toeplitz_function toeplitz_direct_portable, toeplitz_fft_portable;
#if QK_X86
toeplitz_function toeplitz_direct_x86_v3, toeplitz_fft_x86_v3;
toeplitz_function toeplitz_direct_avx512, toeplitz_fft_avx512;
toeplitz_function toeplitz_direct_avx512_icl, toeplitz_fft_avx512_icl;
#endif

enum {
    TOEPLITZ_MAX_LOG_POINTS = 24,
    /* Smallest transform: two vectors of eight, squared. */
    TOEPLITZ_MIN_LOG_POINTS = 6,
    TOEPLITZ_TABLE_BITS = 8,
    TOEPLITZ_TABLES = 3,
    TOEPLITZ_TABLE_WORDS = TOEPLITZ_TABLES << TOEPLITZ_TABLE_BITS,
    /* 256 vectors of the widest tier. */
    TOEPLITZ_BLOCK_WORDS = 256 * 8,
    /* Words read or written beyond an array by the vectors of the direct product. */
    TOEPLITZ_SLACK_WORDS = 16
};

/* Cantor basis of GF(2^64), x^64 + x^4 + x^3 + x + 1: v_0 = 1, v_(i+1)^2 + v_(i+1) = v_i. */
extern const uint64_t toeplitz_cantor[TOEPLITZ_MAX_LOG_POINTS];

/* Pieces of `piece` bits that hold n bits. */
static inline size_t pieces(size_t n_bits, size_t piece) { return (n_bits + piece - 1) / piece; }

/* Least power of two that is at least n, as its logarithm. */
static inline int log2_ceil(size_t n)
{
    int m = 0;
    while (((size_t)1 << m) < n) {
        m++;
    }
    return m;
}

/* Points of the transform, a power of two or three quarters of one: products of pieces of 32 bits must fit. */
static inline size_t toeplitz_points(size_t n_bits, size_t out_bits)
{
    const size_t need = pieces(n_bits, 32) + pieces(out_bits, 32);
    const int m = log2_ceil(need);
    if (m < TOEPLITZ_MIN_LOG_POINTS) {
        return (size_t)1 << TOEPLITZ_MIN_LOG_POINTS;
    }
    const size_t quarter = ((size_t)1 << m) / 4;
    return need <= 3 * quarter && m >= TOEPLITZ_MIN_LOG_POINTS + 2 ? 3 * quarter : 4 * quarter;
}

/* n bits of a packed string of n_words words that begin at bit `start`, which may be negative; zeros outside. */
static inline uint64_t bits_at(const uint64_t *words, ptrdiff_t n_words, ptrdiff_t start)
{
    const ptrdiff_t first = start >> 6;
    const int shift = (int)(start & 63);
    const uint64_t low = first >= 0 && first < n_words ? qk_load64(words + first) : 0;
    const uint64_t high = first + 1 >= 0 && first + 1 < n_words ? qk_load64(words + first + 1) : 0;
    return shift ? low >> shift | high << (64 - shift) : low;
}

#endif

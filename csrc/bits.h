/* Bit tools and gaps: what the tiers supply. */
#ifndef BITS_H
#define BITS_H

#include "qk_internal.h"

#include "qk_bits.h"

struct qk_bits {
    /* Whole words; flags in sixty-fours. What is called as in qk_bits.h does as it says there. */
    void (*pack)(uint64_t *out, const uint8_t *flags, size_t n_words);
    void (*unpack)(uint8_t *flags, const uint64_t *words, size_t n_words);
    int (*gather)(uint64_t *out, const uint64_t *words, size_t n_bits, const int32_t *order, size_t n);
    /* 64 rows of BITS_LANES words, row r at words + r * stride: bit r of tile[64 * l + c] becomes bit c of word l of
     * row r. */
    void (*transpose)(uint64_t *tile, const uint64_t *words, size_t stride);
    uint64_t (*distance)(const uint64_t *a, const uint64_t *b, size_t n_words);
    int (*encode)(uint8_t *out, size_t capacity, uint64_t *n_bytes, const int64_t *gaps, size_t n);
    int (*decode)(int64_t *positions, size_t n, const uint8_t *code, size_t n_bytes, int64_t limit);
};

enum { BITS_LANES = 8 };

extern const struct qk_bits qk_bits_portable;
#if QK_X86
extern const struct qk_bits qk_bits_x86_v3;
extern const struct qk_bits qk_bits_avx512;
extern const struct qk_bits qk_bits_avx512_icl;
#endif

static inline int64_t bits_load(const int64_t *from)
{
    int64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void bits_store(int64_t *to, int64_t value) { memcpy(to, &value, sizeof value); }

/* The first n < 8 bytes of a word. */
static inline uint64_t bits_load_part(const uint8_t *from, size_t n)
{
    uint64_t word = 0;
    memcpy(&word, from, n);
    return word;
}

#endif

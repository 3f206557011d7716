/* What the files of the Hamming kernels share. docs/notes/hamming.md: a frame has W words, bit l W + w of its key in bit
 * l of word w. In a round of blocks of 2^width bits a place holds one of the words, turned; place p is row p / G of group
 * p % G, G = ceil(W / 2^width), and bits c of all words of group g are block 64 g + c. */
#ifndef HAMMING_H
#define HAMMING_H

#include "qk_target.h"

enum { HAMMING_MAX_WIDTH = 20 };

struct shape {
    size_t words, groups;
    int width;
};

static inline qk_hamming_frame hamming_frame(const qk_hamming_frame *frames, size_t i)
{
    qk_hamming_frame f;
    memcpy(&f, (const char *)frames + i * sizeof f, sizeof f);
    return f;
}

static inline struct shape hamming_shape(qk_hamming_frame f)
{
    const size_t words = ((size_t)f.bits + 63) / 64, block = (size_t)1 << f.width;
    return (struct shape){words, (words + block - 1) / block, (int)f.width};
}

/* A string of bits that is written or read front to back. */
struct bit_stream {
    uint64_t *to;
    const uint64_t *from;
    size_t n_words, at;
    uint64_t held; /* bits not written yet, or read and not used */
    unsigned n_held;
};

struct hamming_tier {
    /* Sums [G] and syndromes [width][G] of all blocks. scratch: G << width words; next: words read after these. */
    void (*checks)(uint64_t *sums, uint64_t *syndromes, const uint64_t *rows, const uint32_t *order, struct shape shape,
                   uint64_t *scratch, const uint64_t *next);
    /* Appends the syndromes of flagged blocks; 0 if there is no room. */
    int (*pick)(struct bit_stream *s, const uint64_t *syndromes, const uint64_t *flags, struct shape shape);
    /* Inverts one bit in every flagged block, in the rows and in `found` from bit `start` on; 0 if the stream is too
     * short. Overwrites the syndromes. */
    int (*invert)(uint64_t *rows, uint64_t *found, size_t start, uint64_t *syndromes, const uint64_t *flags,
                  struct bit_stream *s, const uint32_t *order, size_t n_bits, struct shape shape);
};

extern const struct hamming_tier hamming_portable;
#if QK_X86
extern const struct hamming_tier hamming_x86_v3;
extern const struct hamming_tier hamming_avx512;
#endif

#endif

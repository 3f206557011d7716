/* What the C files share: little-endian loads and stores, wiping, the table of kernels. */
#ifndef QK_INTERNAL_H
#define QK_INTERNAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "qk_api.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define QK_X86 1
#else
#define QK_X86 0
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are little-endian in memory; this host is not"
#endif

struct qk_tags;
struct qk_bits;

/* One tier: the variants of every kernel. */
struct qk_kernels {
    const char *name;
    const struct qk_tags *tags;
    const struct qk_bits *bits;
    void (*poly_horner)(uint64_t *out, const uint64_t *state, const uint64_t *key, const uint8_t *blocks,
                        size_t n_blocks);
    void (*toeplitz_direct)(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                            uint64_t *scratch);
    void (*toeplitz_fft)(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                         uint64_t *scratch);
};

extern const struct qk_kernels qk_kernels_portable;
#if QK_X86
extern const struct qk_kernels qk_kernels_x86_v3;
extern const struct qk_kernels qk_kernels_avx512;
extern const struct qk_kernels qk_kernels_avx512_icl;
#endif

/* The tier in use. */
const struct qk_kernels *qk_active(void);

static inline uint64_t qk_load64(const void *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static inline uint32_t qk_load32(const void *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static inline void qk_store64(void *to, uint64_t word) { memcpy(to, &word, sizeof word); }

static inline void qk_store32(void *to, uint32_t word) { memcpy(to, &word, sizeof word); }

/* Overwrites n bytes with zeros in a way that the optimiser cannot leave out. */
void qk_wipe(void *at, size_t n);

#endif

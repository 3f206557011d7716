/* Toeplitz hash: checks, the choice between the direct product and the transform, constants. */
#include "toeplitz.h"

#define MAX_BITS ((size_t)1 << 28)
/* Up to this many key bits the direct product is the faster one, or as good, on every tier. */
#define DIRECT_BITS ((size_t)1 << 13)

const uint64_t toeplitz_cantor[TOEPLITZ_MAX_LOG_POINTS] = {
    UINT64_C(0x0000000000000001), UINT64_C(0x19c9369f278adc02), UINT64_C(0xa181e7d66f5ff794),
    UINT64_C(0x5db84357ce785d08), UINT64_C(0xb973d466f5c9d0ca), UINT64_C(0x521ac889831a075e),
    UINT64_C(0x033ce8beddc8a656), UINT64_C(0xb5846c4e07b91010), UINT64_C(0x4087b8cbb37a32ec),
    UINT64_C(0x00d0d3888c0ae17c), UINT64_C(0xafd5ac70237f2222), UINT64_C(0xe3f5af99cc3aaaf8),
    UINT64_C(0x5a1db3b16a0b58b8), UINT64_C(0x09947c54fe7ee248), UINT64_C(0x0e8eaf0e0068f544),
    UINT64_C(0xa2a113500b4b4f5a), UINT64_C(0xe96f9805d6ce0bb0), UINT64_C(0x53496f8b5c9edd4c),
    UINT64_C(0xad325cb6f4ac2a9e), UINT64_C(0x4a8dcf8bd7ede826), UINT64_C(0xa3e9c552b6434210),
    UINT64_C(0x5fa92ad9c9bc7ed0), UINT64_C(0xa389f910cd7734de), UINT64_C(0xe916f3dfca4609d8),
};

enum { LINE_BYTES = 64 };

static size_t direct_words(size_t n_bits, size_t out_bits)
{
    return pieces(n_bits, 64) + 3 * pieces(out_bits, 64) + 3 * TOEPLITZ_SLACK_WORDS;
}

static size_t fft_words(size_t n_bits, size_t out_bits)
{
    return ((size_t)2 << toeplitz_log_points(n_bits, out_bits)) + TOEPLITZ_BLOCK_WORDS + TOEPLITZ_TABLE_WORDS;
}

/* The first cache line that begins inside the scratch. */
static uint64_t *first_line(uint64_t *scratch)
{
    const uintptr_t skip = -(uintptr_t)scratch & (LINE_BYTES - 1);
    return (uint64_t *)(void *)((unsigned char *)scratch + skip);
}

size_t qk_toeplitz_scratch_words(size_t n_bits, size_t out_bits)
{
    if (n_bits > MAX_BITS || out_bits > n_bits) {
        return 0;
    }
    return (n_bits <= DIRECT_BITS ? direct_words(n_bits, out_bits) : fft_words(n_bits, out_bits)) + LINE_BYTES / sizeof(uint64_t);
}

int qk_toeplitz_hash(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                     uint64_t *scratch, size_t scratch_words)
{
    const struct qk_kernels *tier = qk_active();
    if (out_bits < 1 || out_bits > n_bits || n_bits > MAX_BITS ||
        scratch_words < qk_toeplitz_scratch_words(n_bits, out_bits)) {
        return QK_BAD_SIZE;
    }
    if (n_bits <= DIRECT_BITS) {
        tier->toeplitz_direct(out, out_bits, key, n_bits, seed, first_line(scratch));
    } else {
        tier->toeplitz_fft(out, out_bits, key, n_bits, seed, first_line(scratch));
    }
    return QK_OK;
}

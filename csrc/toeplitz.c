/* Toeplitz hash and its modified form: checks, the choice between direct products and the transform, constants. */
#include "toeplitz.h"

#define MAX_BITS ((size_t)1 << 28)
/* Where neither key nor output has more bits than SQUARE_BITS, or one of them no more than STRIP_BITS, the direct
 * product is the faster one, or as good, on every tier. */
#define SQUARE_BITS ((size_t)1 << 13)
#define STRIP_BITS ((size_t)1 << 11)
/* Up to this many words of key are multiplied directly where a smaller transform is left for the others. */
#define MAX_REST_WORDS ((size_t)32)

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

enum { LINE_BYTES = 64, LINE_WORDS = LINE_BYTES / sizeof(uint64_t) };

static int is_direct(size_t n_bits, size_t out_bits)
{
    return (n_bits <= SQUARE_BITS && out_bits <= SQUARE_BITS) || n_bits <= STRIP_BITS || out_bits <= STRIP_BITS;
}

/* Words at the end of the key without which the next smaller transform will do; 0 if they are too many. */
static size_t rest_words(size_t n_bits, size_t out_bits)
{
    const size_t points = toeplitz_points(n_bits, out_bits), power = (size_t)1 << log2_ceil(points);
    const size_t smaller = points == power ? power / 4 * 3 : power / 2;
    const size_t need = pieces(n_bits, 32) + pieces(out_bits, 32);
    const size_t words = need > smaller ? pieces(need - smaller, 2) : 0;
    return words <= MAX_REST_WORDS && n_bits > 64 * words ? words : 0;
}

static size_t direct_words(size_t n_bits, size_t out_bits)
{
    return pieces(n_bits, 64) + 3 * pieces(out_bits, 64) + 3 * TOEPLITZ_SLACK_WORDS;
}

static size_t fft_words(size_t n_bits, size_t out_bits)
{
    return 2 * toeplitz_points(n_bits, out_bits) + TOEPLITZ_BLOCK_WORDS + TOEPLITZ_TABLE_WORDS;
}

/* Words rounded up to cache lines. */
static size_t lines(size_t words) { return LINE_WORDS * pieces(words, LINE_WORDS); }

static size_t product_words(size_t n_bits, size_t out_bits)
{
    if (is_direct(n_bits, out_bits)) {
        return direct_words(n_bits, out_bits);
    }
    const size_t rest = rest_words(n_bits, out_bits);
    const size_t extra = rest ? lines(rest) + lines(pieces(out_bits, 64)) : 0;
    return extra + fft_words(n_bits - 64 * rest, out_bits);
}

/* `bits` bits of `words` from bit `start` on; what lies behind them in the last word becomes zero. */
static void copy_bits(uint64_t *to, size_t bits, const uint64_t *words, size_t n_bits, size_t start)
{
    const size_t n = pieces(bits, 64);
    for (size_t i = 0; i < n; i++) {
        to[i] = bits_at(words, (ptrdiff_t)pieces(n_bits, 64), (ptrdiff_t)(start + 64 * i));
    }
}

/* to ^= words; the bits of the last word from `bits` on become zero. */
static void add_bits(uint64_t *to, size_t bits, const uint64_t *words)
{
    const size_t n = pieces(bits, 64);
    for (size_t i = 0; i < n; i++) {
        qk_store64(to + i, qk_load64(to + i) ^ qk_load64(words + i));
    }
    if (bits & 63) {
        qk_store64(to + n - 1, qk_load64(to + n - 1) & (((uint64_t)1 << (bits & 63)) - 1));
    }
}

/* The first bits of the key meet the seed from bit 64 * rest on, the last 64 * rest meet its beginning. */
static void split_product(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                          uint64_t *scratch, size_t rest)
{
    const struct qk_kernels *tier = qk_active();
    const size_t out_words = pieces(out_bits, 64), first_bits = n_bits - 64 * rest;
    uint64_t *last = scratch, *part = last + lines(rest), *work = part + lines(out_words);
    copy_bits(last, 64 * rest, key, n_bits, first_bits);
    tier->toeplitz_fft(out, out_bits, key, first_bits, seed + rest, work);
    tier->toeplitz_direct(part, out_bits, last, 64 * rest, seed, work);
    add_bits(out, out_bits, part);
    qk_wipe(scratch, (size_t)(work - scratch) * sizeof *scratch);
}

/* The product for any sizes; scratch begins at a cache line. */
static void product(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                    uint64_t *scratch)
{
    const size_t rest = rest_words(n_bits, out_bits);
    if (is_direct(n_bits, out_bits)) {
        qk_active()->toeplitz_direct(out, out_bits, key, n_bits, seed, scratch);
    } else if (rest) {
        split_product(out, out_bits, key, n_bits, seed, scratch, rest);
    } else {
        qk_active()->toeplitz_fft(out, out_bits, key, n_bits, seed, scratch);
    }
}

/* The first cache line that begins inside the scratch. */
static uint64_t *first_line(uint64_t *scratch)
{
    const uintptr_t skip = -(uintptr_t)scratch & (LINE_BYTES - 1);
    return (uint64_t *)(void *)((unsigned char *)scratch + skip);
}

size_t qk_toeplitz_scratch_words(size_t n_bits, size_t out_bits)
{
    if (n_bits < 1 || n_bits > MAX_BITS || out_bits < 1 || out_bits > n_bits) {
        return 0;
    }
    return product_words(n_bits, out_bits) + LINE_WORDS;
}

int qk_toeplitz_hash(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                     uint64_t *scratch, size_t scratch_words)
{
    if (out_bits < 1 || out_bits > n_bits || n_bits > MAX_BITS ||
        scratch_words < qk_toeplitz_scratch_words(n_bits, out_bits)) {
        return QK_BAD_SIZE;
    }
    product(out, out_bits, key, n_bits, seed, first_line(scratch));
    return QK_OK;
}

size_t qk_toeplitz_modified_scratch_words(size_t n_bits, size_t out_bits)
{
    if (n_bits > MAX_BITS || out_bits < 1 || out_bits >= n_bits) {
        return 0;
    }
    const size_t tail_bits = n_bits - out_bits;
    return lines(pieces(tail_bits, 64)) + product_words(tail_bits, out_bits) + LINE_WORDS;
}

int qk_toeplitz_hash_modified(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits,
                              const uint64_t *seed, uint64_t *scratch, size_t scratch_words)
{
    if (out_bits < 1 || out_bits >= n_bits || n_bits > MAX_BITS ||
        scratch_words < qk_toeplitz_modified_scratch_words(n_bits, out_bits)) {
        return QK_BAD_SIZE;
    }
    const size_t tail_bits = n_bits - out_bits, tail_words = pieces(tail_bits, 64);
    uint64_t *tail = first_line(scratch);
    copy_bits(tail, tail_bits, key, n_bits, out_bits);
    product(out, out_bits, tail, tail_bits, seed, tail + lines(tail_words));
    add_bits(out, out_bits, key);
    qk_wipe(tail, tail_words * sizeof *tail);
    return QK_OK;
}

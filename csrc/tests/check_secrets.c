/* Do branches or addresses depend on secrets? Run under valgrind, which then calls them uninitialised.
 *
 *     gcc -std=gnu11 -O3 -g -Icsrc csrc/tests/check_secrets.c csrc/[a-z]*.c -o check_secrets
 *     valgrind -q --error-exitcode=1 ./check_secrets portable
 *
 * Keys, states, messages and seeds are marked undefined; a branch or an address made from them is reported. The
 * tier must be one that valgrind emulates (no AVX-512). With a second argument there is a branch on a secret on
 * purpose: the report that has to appear. */
#include <stdio.h>
#include <stdlib.h>
#include <valgrind/memcheck.h>

#include "bits.h"

static void *secret(size_t n_bytes)
{
    void *at = calloc(n_bytes, 1);
    VALGRIND_MAKE_MEM_UNDEFINED(at, n_bytes);
    return at;
}

static void check_poly(void)
{
    enum { N_BYTES = 4101 };
    uint64_t out[2], *key = secret(16), *state = secret(16);
    uint8_t digest[16], *message = secret(N_BYTES);
    qk_poly_horner(out, state, key, message, N_BYTES / 16);
    qk_poly_hash(digest, (const uint8_t *)key, message, N_BYTES);
    free(key);
    free(state);
    free(message);
}

static void check_toeplitz(size_t n_bits, size_t out_bits)
{
    const size_t n_words = qk_toeplitz_scratch_words(n_bits, out_bits);
    const size_t modified_words = qk_toeplitz_modified_scratch_words(n_bits, out_bits);
    uint64_t *key = secret((n_bits + 63) / 64 * 8), *seed = secret((n_bits + out_bits + 62) / 64 * 8);
    uint64_t *out = malloc((out_bits + 63) / 64 * 8), *scratch = malloc((n_words + modified_words) * 8);
    qk_toeplitz_hash(out, out_bits, key, n_bits, seed, scratch, n_words);
    qk_toeplitz_hash_modified(out, out_bits, key, n_bits, seed, scratch, modified_words);
    free(key);
    free(seed);
    free(out);
    free(scratch);
}

static void check_bits(void)
{
    enum { N = 72 * 1024 };
    const size_t n_words = (N + 63) / 64;
    uint64_t count, *words = secret(n_words * 8), *others = secret(n_words * 8), *out = malloc(1000 * 2 * 8);
    uint8_t *flags = secret(N);
    int32_t *order = malloc(N * sizeof *order);
    for (int i = 0; i < N; i++) {
        order[i] = (int32_t)((int64_t)i * 7 % N);
    }
    qk_bits_pack(words, flags, N);
    qk_bits_unpack(flags, others, N);
    qk_bits_gather(others, words, N, order, N);
    qk_bits_distance(&count, words, others, n_words);
    qk_bits_transpose(out, words, 70, 1000);
    free(words);
    free(others);
    free(out);
    free(flags);
    free(order);
}

/* Flags, and with them the rows that qk_hamming_invert changes, are functions of the error pattern, not of the key. */
static void check_hamming(int64_t bits, int64_t width)
{
    enum { ROOM = 2048 };
    const int64_t places = (bits + 63) / 64;
    const qk_hamming_frame frame = {.bits = bits, .width = width};
    uint64_t *rows = secret(ROOM * 8), *sums = malloc(ROOM * 8), *own = malloc(ROOM * 8);
    uint64_t *out = malloc(ROOM * 8), *scratch = malloc(ROOM * 8), flags[ROOM];
    uint32_t order[ROOM];
    for (int64_t i = 0; i < ROOM; i++) {
        order[i] = (uint32_t)((places - 1 - i % places) << 6 | (i * 37 & 63));
        flags[i] = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)i;
    }
    qk_hamming_checks(sums, own, rows, &frame, 1, order, scratch, ROOM);
    size_t n_bits = 0;
    for (int64_t g = 0; g < (places + (1 << width) - 1) >> width; g++) {
        n_bits += (size_t)__builtin_popcountll(flags[g]) * (size_t)width;
    }
    if (qk_hamming_pick(out, (n_bits + 63) / 64, own, flags, &frame, 1) != QK_OK) {
        abort();
    }
    free(rows);
    free(sums);
    free(own);
    free(out);
    free(scratch);
}

static int use(const char *name)
{
    for (int tier = 0; tier < qk_isa_count(); tier++) {
        if (!strcmp(name, qk_isa_name(tier))) {
            return qk_set_isa(tier);
        }
    }
    return QK_BAD_TIER;
}

int main(int argc, char **argv)
{
    if (argc < 2 || use(argv[1]) != QK_OK) {
        puts("usage: check_secrets TIER [control]; the tier must run here");
        return 2;
    }
    check_poly();
    check_bits();
    check_toeplitz(1000, 500);
    check_toeplitz(9000, 9000);
    check_toeplitz(32700, 16400);
    check_toeplitz(65000, 32800);
    check_toeplitz(70000, 35000);
    check_hamming(1000, 2);
    check_hamming(65536, 5);
    check_hamming(65000, 10);
    if (argc > 2) {
        const uint8_t *control = secret(1);
        puts(*control ? "control: set" : "control: clear");
    }
    printf("checked %s\n", argv[1]);
    return 0;
}

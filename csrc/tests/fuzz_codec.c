/* The codec of announcements under hostile bytes, with sanitizers, in every tier that runs here:
 *
 *     gcc -std=gnu11 -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc \
 *         csrc/tests/fuzz_codec.c csrc/[a-z]*.c -lm -o fuzz_codec
 *     ./fuzz_codec ROUNDS SEED
 *
 * Codes of random gaps are flipped, overwritten, cut and lengthened, or made of random bytes altogether, and are
 * decoded for a count and a limit that may be wrong. Buffers are as long as they must be, so that one byte too many is
 * reported. All tiers must encode to the same bytes, give the same answer, and accept increasing positions up to the
 * limit only. */
#include <stdio.h>
#include <stdlib.h>

#include "bits.h"

enum { MOST_GAPS = 300, MOST_TIERS = 8 };

static uint64_t state;

/* xorshift64*. */
static uint64_t draw(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1D;
}

static uint64_t below(uint64_t n) { return draw() % n; }

static void ensure(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_codec: %s\n", what);
        exit(1);
    }
}

/* Gaps of some scale, now and then a long one. */
static void draw_gaps(int64_t *gaps, size_t n)
{
    const unsigned scale = (unsigned)below(36), longs = below(4) ? 0 : 1 + (unsigned)below(20);
    for (size_t i = 0; i < n; i++) {
        const unsigned bits = longs && !below(longs) ? (unsigned)below(56) : scale;
        gaps[i] = (int64_t)(draw() & (((uint64_t)1 << bits) - 1));
    }
}

/* The code in memory of its own, encoded by every tier. */
static uint8_t *encode_all(size_t *n_bytes, const int64_t *gaps, size_t n)
{
    uint8_t *room = malloc(64 + 20 * n), *code = NULL;
    for (int tier = 0; tier < qk_isa_count(); tier++) {
        uint64_t size = 0;
        if (qk_set_isa(tier) != QK_OK) {
            continue;
        }
        ensure(qk_gaps_encode(room, 64 + 20 * n, &size, gaps, n) == QK_OK, "gaps were not encoded");
        if (!code) {
            code = malloc(size);
            memcpy(code, room, size);
            *n_bytes = size;
        }
        ensure(size == *n_bytes && !memcmp(code, room, size), "tiers encode differently");
        uint8_t *exact = malloc(size);
        ensure(qk_gaps_encode(exact, size, &size, gaps, n) == QK_OK, "no room where there is enough");
        free(exact);
    }
    free(room);
    return code;
}

static uint8_t *damage(uint8_t *code, size_t *n_bytes)
{
    for (uint64_t i = below(4); i && *n_bytes; i--) {
        const size_t at = below(3) ? below(*n_bytes) : below(*n_bytes < 5 ? *n_bytes : 5);
        code[at] = below(2) ? (uint8_t)draw() : (uint8_t)(code[at] ^ 1 << below(8));
    }
    const size_t size = below(3) ? *n_bytes : below(*n_bytes + 20);
    uint8_t *changed = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++) {
        changed[i] = i < *n_bytes ? code[i] : (uint8_t)draw();
    }
    free(code);
    *n_bytes = size;
    return changed;
}

static uint8_t *random_bytes(size_t *n_bytes)
{
    *n_bytes = below(200);
    uint8_t *bytes = malloc(*n_bytes ? *n_bytes : 1);
    for (size_t i = 0; i < *n_bytes; i++) {
        bytes[i] = (uint8_t)(draw() & (i ? 0xFF : 0x3F) & (i > 1 && i < 5 ? 0 : 0xFF));
    }
    return bytes;
}

/* Decodes with every tier; returns whether the code was accepted. */
static int decode_all(const uint8_t *code, size_t n_bytes, size_t n, int64_t limit)
{
    int64_t *positions[MOST_TIERS] = {NULL};
    int first = -1, answer = QK_OK;
    for (int tier = 0; tier < qk_isa_count(); tier++) {
        if (qk_set_isa(tier) != QK_OK) {
            continue;
        }
        positions[tier] = malloc(n * sizeof(int64_t));
        const int status = qk_gaps_decode(positions[tier], n, code, n_bytes, limit);
        if (first < 0) {
            first = tier;
            answer = status;
        }
        ensure(status == answer, "tiers answer differently");
        ensure(status || !memcmp(positions[tier], positions[first], n * sizeof(int64_t)), "tiers decode differently");
    }
    for (size_t i = 0; answer == QK_OK && i < n; i++) {
        const int64_t before = i ? positions[first][i - 1] : -1;
        ensure(positions[first][i] > before && positions[first][i] <= limit, "a position that must not be");
    }
    if (answer == QK_OK && limit < 1 << 20) {
        uint8_t *flags = calloc((size_t)limit + 1, 1);
        ensure(qk_flags_flip(flags, (size_t)limit + 1, positions[first], n) == QK_OK, "flags were refused");
        free(flags);
    }
    for (int tier = 0; tier < MOST_TIERS; tier++) {
        free(positions[tier]);
    }
    return answer == QK_OK;
}

int main(int argc, char **argv)
{
    const unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) + 1 : 1;
    unsigned long accepted = 0;
    ensure(qk_isa_count() <= MOST_TIERS, "more tiers than expected");
    for (unsigned long round = 0; round < rounds; round++) {
        const size_t n = 1 + below(below(8) ? 20 : MOST_GAPS);
        size_t n_bytes;
        uint8_t *code;
        if (below(4)) {
            int64_t gaps[MOST_GAPS];
            draw_gaps(gaps, n);
            code = damage(encode_all(&n_bytes, gaps, n), &n_bytes);
        } else {
            code = random_bytes(&n_bytes);
        }
        const int64_t limit = (int64_t)(draw() >> (2 + below(2) * below(61)));
        accepted += (unsigned long)decode_all(code, n_bytes, below(4) ? n : n + below(3) * below(70), limit);
        free(code);
    }
    printf("%lu codes, %lu accepted\n", rounds, accepted);
    return 0;
}

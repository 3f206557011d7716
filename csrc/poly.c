/* Polynomial hash: padding, the length block, many messages; the tiers supply Horner's rule. */
#include "qk_internal.h"

enum { BLOCK_BYTES = 16 };

int qk_poly_horner(uint64_t *out, const uint64_t *state, const uint64_t *key, const uint8_t *blocks, size_t n_blocks)
{
    qk_active()->poly_horner(out, state, key, blocks, n_blocks);
    return QK_OK;
}

/* The hash with the tier's Horner rule: whole blocks first, then the padded rest together with the length block. */
static void hash_one(const struct qk_kernels *tier, uint8_t *out, const uint64_t *key, const uint8_t *message,
                     size_t n_bytes)
{
    uint64_t value[2] = {0, 0};
    uint8_t last[2 * BLOCK_BYTES] = {0};
    const size_t n_whole = n_bytes / BLOCK_BYTES, n_rest = n_bytes % BLOCK_BYTES;
    const size_t length_at = n_rest ? BLOCK_BYTES : 0;
    tier->poly_horner(value, value, key, message, n_whole);
    memcpy(last, message + n_whole * BLOCK_BYTES, n_rest);
    qk_store64(last + length_at, (uint64_t)n_bytes);
    tier->poly_horner(value, value, key, last, length_at / BLOCK_BYTES + 1);
    memcpy(out, value, sizeof value);
    qk_wipe(value, sizeof value);
    qk_wipe(last, sizeof last);
}

int qk_poly_hash(uint8_t *out, const uint8_t *key, const uint8_t *message, size_t n_bytes)
{
    uint64_t k[2] = {qk_load64(key), qk_load64(key + 8)};
    hash_one(qk_active(), out, k, message, n_bytes);
    qk_wipe(k, sizeof k);
    return QK_OK;
}

int qk_poly_hash_many(uint8_t *out, const uint8_t *key, const uint8_t *messages, const uint64_t *edges,
                      size_t n_messages)
{
    const struct qk_kernels *tier = qk_active();
    uint64_t k[2] = {qk_load64(key), qk_load64(key + 8)};
    for (size_t i = 0; i < n_messages; i++) {
        const uint64_t start = qk_load64(edges + i), end = qk_load64(edges + i + 1);
        hash_one(tier, out + BLOCK_BYTES * i, k, messages + start, (size_t)(end - start));
    }
    qk_wipe(k, sizeof k);
    return QK_OK;
}

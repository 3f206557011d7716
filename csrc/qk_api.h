/* The compiled kernels of qkdpp: everything Python may call.
 *
 * cffi reads this file as it stands, so it holds integer constants and
 * prototypes only; C files include it through qk_internal.h.
 *
 * Contract: outputs come first, then inputs, each size after its pointer.
 * Functions return QK_OK or a negative status. They allocate nothing, do no
 * I/O, start no threads and keep no state but the tier in use. Pointers may be
 * misaligned; outputs overlap neither each other nor inputs. Bits are packed
 * little-endian: bit i of a string is bit (i & 63) of word i >> 6. No branch
 * and no address depends on the content of keys, messages, seeds or states.
 * Tables of secrets are wiped before a function returns.
 */

#define QK_OK 0
#define QK_BAD_SIZE -1
#define QK_BAD_TIER -2

/* Tiers of instruction sets, the plainest first. */

int qk_isa_count(void);

/* Name of a tier, or NULL. */
const char *qk_isa_name(int tier);

/* 1 if the processor and the operating system can run the tier, otherwise 0. */
int qk_isa_supported(int tier);

/* The tier in use. */
int qk_isa(void);

/* Puts a tier to use; QK_BAD_TIER if it is unknown or cannot run here. Not while a kernel runs. */
int qk_set_isa(int tier);

/* Polynomial hash over GF(2^128), docs/notes/authentication.md.
 * Elements are two words, the low one first. */

/* out = state * k^n + block_1 * k^n + ... + block_n * k; blocks are 16 bytes each. */
int qk_poly_horner(uint64_t *out, const uint64_t *state, const uint64_t *key, const uint8_t *blocks, size_t n_blocks);

/* Hash of a message of any length, 16 bytes. */
int qk_poly_hash(uint8_t *out, const uint8_t *key, const uint8_t *message, size_t n_bytes);

/* Hashes of n messages: message i lies at bytes edges[i] to edges[i + 1], edges increase. 16 bytes each. */
int qk_poly_hash_many(uint8_t *out, const uint8_t *key, const uint8_t *messages, const uint64_t *edges,
                      size_t n_messages);

/* Toeplitz hash, docs/notes/toeplitz.md: out[i] = XOR over j of seed[i - j + n_bits - 1] & key[j].
 * out: (out_bits + 63) / 64 words, padding zero; key: n_bits; seed: n_bits + out_bits - 1; unused bits zero.
 * 1 <= out_bits <= n_bits <= 2^28. */
int qk_toeplitz_hash(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                     uint64_t *scratch, size_t scratch_words);

/* Words of scratch that qk_toeplitz_hash needs. */
size_t qk_toeplitz_scratch_words(size_t n_bits, size_t out_bits);

/* The modified form, with k = n_bits - out_bits: out[i] = key[i] ^ XOR over j < k of seed[i - j + k - 1] &
 * key[out_bits + j]. key: n_bits; seed: n_bits - 1; 1 <= out_bits < n_bits <= 2^28. */
int qk_toeplitz_hash_modified(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits,
                              const uint64_t *seed, uint64_t *scratch, size_t scratch_words);

/* Words of scratch that qk_toeplitz_hash_modified needs. */
size_t qk_toeplitz_modified_scratch_words(size_t n_bits, size_t out_bits);

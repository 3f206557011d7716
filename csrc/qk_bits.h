/* Bit tools and the codec of announcements: a part of qk_api.h, whose contract holds but for one thing: what the codec
 * does, and which bits are gathered, depends on public values, and so do branches and addresses. cffi reads this file
 * as it stands. */

/* The first bytes decoded from a peer may say anything; these are the ways in which they can be wrong. */
#define QK_CODE_TRUNCATED -4
#define QK_CODE_UNARY -5
#define QK_CODE_LONG -6
#define QK_CODE_PADDING -7
#define QK_CODE_LIMIT -8
#define QK_BAD_ORDER -9

/* Bit i of out is 1 if flags[i] is not 0; padding is zero. */
int qk_bits_pack(uint64_t *out, const uint8_t *flags, size_t n);

/* flags[i] = bit i, 0 or 1. */
int qk_bits_unpack(uint8_t *flags, const uint64_t *words, size_t n);

/* Bit i of out is bit order[i] of words; padding is zero. QK_BAD_SIZE if one of order is not below n_bits. */
int qk_bits_gather(uint64_t *out, const uint64_t *words, size_t n_bits, const int32_t *order, size_t n);

/* Bit r of row c of out is bit c of row r of words. Rows are whole words: (n_rows + 63) / 64 in out, padding zero;
 * (n_columns + 63) / 64 in words, where padding may be anything. */
int qk_bits_transpose(uint64_t *out, const uint64_t *words, size_t n_rows, size_t n_columns);

/* In how many bits two strings of whole words differ. */
int qk_bits_distance(uint64_t *count, const uint64_t *a, const uint64_t *b, size_t n_words);

/* The bytes whose flag is not 0, in their order; room for n (what lies behind them may be overwritten). */
int qk_bytes_pick(uint8_t *out, uint64_t *n_picked, const uint8_t *bytes, const uint8_t *flags, size_t n);

/* The inverse: bytes, one for every flag that is not 0, in their places, and 0 elsewhere; QK_BAD_SIZE unless they are as
 * many. */
int qk_bytes_spread(uint8_t *out, const uint8_t *flags, size_t n, const uint8_t *bytes, size_t n_bytes);

/* The codec, docs/formats/wire.md. gaps[i]: how many numbers lie between slots[i - 1] (at first: -1) and slots[i];
 * QK_BAD_ORDER unless 0 <= slots[0] < slots[1] ... */
int qk_gaps_of_slots(int64_t *gaps, const int64_t *slots, size_t n);

/* The gaps of the positions below n_bits of the bits that are one (flip 0) or zero (flip 1); QK_NO_ROOM if there are
 * more than capacity of them. Padding of words is zero. */
int qk_gaps_of_bits(int64_t *gaps, size_t capacity, uint64_t *n_gaps, const uint64_t *words, size_t n_bits, int flip);

/* The code of n >= 1 gaps, each from 0 to 2^62 - 1; QK_NO_ROOM, and nothing written, if it is longer than capacity. */
int qk_gaps_encode(uint8_t *out, size_t capacity, uint64_t *n_bytes, const int64_t *gaps, size_t n);

/* The positions that the gaps of a code lead to: n >= 1, each at most limit, 0 <= limit < 2^62. QK_OK or one of
 * QK_CODE_; whatever the bytes are, nothing outside of them is read and nothing but n positions written. */
int qk_gaps_decode(int64_t *positions, size_t n, const uint8_t *code, size_t n_bytes, int64_t limit);

/* flags[position] ^= 1 for every position; QK_BAD_SIZE if one is not below n. */
int qk_flags_flip(uint8_t *flags, size_t n, const int64_t *positions, size_t n_positions);

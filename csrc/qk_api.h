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
#define QK_NO_ROOM -3

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

/* Time tags. Times are int64; labels (channels, detectors) are bytes. What lies behind the tags that were written
 * may be overwritten up to the capacity. Running times depend on times and labels. */

#define QK_T2_PICOHARP 0
#define QK_T2_HYDRAHARP_1 1
#define QK_T2_HYDRAHARP_2 2
#define QK_T2_FAMILIES 3

/* PicoQuant T2 records (docs/formats/picoquant.md) to times and channel ids, until the words end or the next record
 * might not fit. wrap < 2^32. state: overflows counted (in, out), tags written, words read, records without a meaning
 * (added), tags earlier than the tag before them (added). */
int qk_t2_decode(int64_t *time, uint8_t *ids, size_t capacity, uint64_t *state, const uint8_t *words, size_t n_words,
                 uint64_t wrap, int family);

/* 64-bit words (docs/formats/sfifteen.md) to times and labels: the time is word >> shift (5 to 40) and goes on where it
 * jumps by more than half its range; the label is table[word & 31], and QK_NO_LABEL leaves the word out. Room for n
 * each; counts: how often each of the 32 entries came. state: wraps counted and the last time (in, out), tags written.
 * QK_NO_ROOM: the time would pass 2^62. */
#define QK_NO_LABEL 255
int qk_words_decode(int64_t *time, uint8_t *ids, uint64_t *counts, uint64_t *state, const uint8_t *words, size_t n,
                    int shift, const uint8_t *table);

/* How many tags are earlier than the tag before them. */
int qk_tags_backward(uint64_t *count, const int64_t *ticks, size_t n);

/* labels[i] = table[labels[i]] in place; table: 256 bytes; largest: of the results, 0 of none. */
int qk_tags_relabel(uint8_t *labels, size_t n, uint8_t *largest, const uint8_t *table);

/* How often every label occurs; counts: 256. */
int qk_tags_count(uint64_t *counts, const uint8_t *labels, size_t n);

/* Indices of events of two sorted streams that are each other's nearest (the earlier one if two are equally far) and
 * at most half_window apart; the indices increase. capacity: the shorter stream's length and QK_MATCH_ROOM. */
#define QK_MATCH_ROOM 16
int qk_tags_match(int64_t *in_a, int64_t *in_b, size_t capacity, uint64_t *n_pairs, const int64_t *a, size_t n_a,
                  const int64_t *b, size_t n_b, int64_t half_window);

/* The labels of tags (sorted) at the times wanted, of the first one where times are equal; `missing` where there is none.
 * Fast where the times wanted do not decrease. */
int qk_tags_lookup(uint8_t *found, const int64_t *wanted, size_t n_wanted, const int64_t *ticks, const uint8_t *labels,
                   size_t n, uint8_t missing);

/* Two sorted streams as one; where times are equal, a comes first. */
int qk_tags_merge(int64_t *ticks, uint8_t *labels, const int64_t *a, const uint8_t *labels_a, size_t n_a,
                  const int64_t *b, const uint8_t *labels_b, size_t n_b);

/* Sorts nearly sorted tags in place, equal times in the order they had. QK_NO_ROOM: it would take more moves than
 * allowed; the tags are then sorted up to somewhere, and a stable sort finishes the work. */
int qk_tags_settle(int64_t *ticks, uint8_t *labels, size_t n, size_t most_moves);

/* Rules of a gating pass, qkdpp/timing/gate_rules.py. Tables by channel have 256 entries. */
struct qk_gate_rules {
    const int8_t *code;
    const int64_t *whole_ticks;
    const double *part_ticks;
    const int64_t *gap_start;
    const int64_t *gap_end;
    size_t n_gaps;
    const int64_t *knot_ticks;
    const int64_t *knot_slot;
    const double *knot_fraction;
    const double *slots_per_tick;
    const uint8_t *locked;
    size_t n_knots;
    int64_t stop_tick;
    int64_t dead_ticks;
    double half_gate;
    double offset;
    size_t bins;
};

/* Sorted tags to clicks in slots. slots, mask, leader, at: room for n each; histogram: 4 rows of bins, added to;
 * counters: lost, unlocked, outside, blanked, repeated. held_ticks, held_channel: scratch in which clicks are put in
 * order; QK_NO_ROOM if more than n_held of them must wait. */
int qk_gate(uint64_t *n_found, int64_t *slots, uint8_t *mask, uint8_t *leader, int64_t *at, int64_t *histogram,
            int64_t *counters, const int64_t *ticks, const uint8_t *channel, size_t n, const struct qk_gate_rules *rules,
            int64_t *held_ticks, uint8_t *held_channel, size_t n_held);

/* Arrivals within the slot by the same rules, each click for itself, whatever the gate, gaps and dead time: of clicks
 * while the clock is locked, counts[row][bin] += 1 (added to), where row = rows[channel] (256 entries) and, with
 * slice_ticks > 0, the number of whole slices from slice_start to the corrected time beyond it. counts: n_rows rows of
 * bins; QK_BAD_SIZE if a row might lie outside. */
int qk_fold(int64_t *counts, size_t n_rows, const int64_t *ticks, const uint8_t *channel, size_t n,
            const struct qk_gate_rules *rules, const int64_t *rows, int64_t slice_start, int64_t slice_ticks);

/* Slots and channels of the clicks inside the gate while the clock is locked, in the order of the tags, whatever gaps
 * and dead time; room for n each. */
int qk_slots(int64_t *slots, uint8_t *labels, uint64_t *n_found, const int64_t *ticks, const uint8_t *channel, size_t n,
             const struct qk_gate_rules *rules);

/* A line through sync pulses: time = tick + offset + k (period + slope); kept: how many pulses, 0 if there is no line. */
struct qk_line {
    double offset;
    double slope;
    double variance;
    double bend;
    int64_t kept;
};

/* The robust least-squares line through pulses numbered by `period` from `tick` on, qkdpp/timing/sync_line.py. least:
 * tolerance in ticks whatever the spread. QK_NO_ROOM beyond 1,536 pulses. */
int qk_line_fit(struct qk_line *line, const int64_t *ticks, size_t n, int64_t tick, double period, double least);

/* Clicks against a string of known scores: for every click, total[at + k] += scores[row][k] for k < length, as far as
 * at + k lies from 0 to n_shifts - 1. scores: 4 rows of length; QK_BAD_SIZE if a row is 4 or more. */
int qk_correlate(int32_t *total, size_t n_shifts, const int64_t *at, const uint8_t *row, size_t n, const int8_t *scores,
                 size_t length);

/* The Hamming procedure, docs/notes/hamming.md: a round of blocks of 2^width bits, frame after frame. Entries of orders:
 * word of the frame << 6 | bits it is turned by; W = ceil(bits / 64) of them. Branches and addresses depend on flags and,
 * in qk_hamming_invert, on where errors are, both functions of the error pattern; never on the key. */
typedef struct qk_hamming_frame {
    int64_t start;    /* its first bit in the key */
    int64_t bits;
    int64_t row;      /* its first word in rows; bit l of word w is bit l W + w of the frame, zero if it has none */
    int64_t order;    /* its first entry in orders */
    int64_t width;    /* 0 to 20 */
    int64_t sum;      /* its first word in sums and flags: G = ceil(W / 2^width) words */
    int64_t syndrome; /* its first word in syndromes: [width][G] */
} qk_hamming_frame;

/* Sums of all blocks, and bit j of the syndromes of all blocks. scratch: the largest G << width. */
int qk_hamming_checks(uint64_t *sums, uint64_t *syndromes, const uint64_t *rows, const qk_hamming_frame *frames,
                      size_t n_frames, const uint32_t *orders, uint64_t *scratch, size_t scratch_words);

/* Syndromes of the flagged blocks without gaps: of every frame bits 0, then bits 1, .... out_words: as they need. */
int qk_hamming_pick(uint64_t *out, size_t out_words, const uint64_t *syndromes, const uint64_t *flags,
                    const qk_hamming_frame *frames, size_t n_frames);

/* Inverts one bit in every flagged block, by this party's syndromes (overwritten) and the other's, in the rows and in
 * `found`, as long as the key. */
int qk_hamming_invert(uint64_t *rows, uint64_t *found, uint64_t *syndromes, const uint64_t *flags,
                      const uint64_t *theirs, size_t their_words, const qk_hamming_frame *frames, size_t n_frames,
                      const uint32_t *orders);

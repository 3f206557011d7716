/* The Cascade engine: a part of qk_api.h, whose contract holds but for one thing: branches and addresses depend on the
 * answers, which are functions of the error pattern, never on the key. cffi reads this file as it stands.
 *
 * docs/notes/cascade.md: one party's side of a batch of frames that advance in step. The caller fills in everything
 * down to `out_words`, allocates what the pointers name and calls qk_cascade_load. */
typedef struct qk_cascade {
    size_t n_frames, frame_bits, last_bits, width; /* frames; bits of all but the last; of the last; words of a frame */
    size_t n_masks, max_rounds;
    int corrects; /* whether this party changes its key */
    double hint;  /* expected error rate */
    /* Rules: mean errors in blocks of the first and second pass, weight of the hint and its trust in standard
     * deviations, for all frames and for one; errors in a node that is short; the same for all odd nodes together. */
    double errors_1, errors_2, trusted_all, trusted_one, sigmas_all, sigmas_one, short_1, short_2, short_all;
    double max_short, max_short_busy;
    int busy;          /* odd nodes of all lists beyond which max_short_busy holds for the last list */
    int blocks_3;      /* blocks of the third pass */
    size_t late_from; /* the round from which the third pass opens even if odd nodes are left */
    const int32_t *orders;   /* [tables][3][frame_bits]: of each position, its index in list 1 and its bit in the frame,
                              * in pairs; index in list 1 to position */
    const uint64_t *masks;   /* [n_masks][width] */
    const uint16_t *mask_of; /* [frame_bits]: bit q set where mask q holds the position */
    uint64_t *rows;          /* qk_cascade_row_words */
    void *frames;            /* qk_cascade_frame_bytes, 8-byte aligned */
    uint64_t *found;         /* errors found: bit found_first + i for bit i of the batch; zero at first */
    uint64_t found_first;
    void *entries[2]; /* room_entries * qk_cascade_entry_bytes each: of this round and of the last, by turns */
    int turn;
    size_t room_entries;
    uint64_t *out; /* out_words: parities asked for, packed */
    size_t out_words;
    /* Results of the last qk_cascade_ask, and where it goes on. */
    size_t n_out, n_entries, cursor, cycle, n_cutting, n_left;
    int asking;
    const uint64_t *answers; /* to the last round, taken at the beginning of the next; NULL: none */
    size_t n_asked, n_told, answer_at;
} qk_cascade;

#define QK_CASCADE_MORE 1

size_t qk_cascade_row_words(const qk_cascade *b);
size_t qk_cascade_frame_bytes(const qk_cascade *b);
size_t qk_cascade_entry_bytes(void);

/* Fills the state; key: bits start to start + all frames. scratch: 64 * width words, needed from 32 frames on. */
int qk_cascade_load(qk_cascade *b, const uint64_t *key, uint64_t start, uint64_t *scratch);

/* Takes the answers to the last round, if any, n_out bits at `answers`; then the next round: n_out parities of this
 * party's key in out. n_left = 0: all frames have ended.
 * QK_CASCADE_MORE: room for entries or words ran out; enlarge, keep the contents and call again. */
int qk_cascade_ask(qk_cascade *b);

/* 1 for every frame that is not clean, as bytes. */
int qk_cascade_suspects(const qk_cascade *b, uint8_t *out);

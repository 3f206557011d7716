/* Hamming: the frames of a round one after the other. */
#include "hamming.h"

static const struct hamming_tier *chosen(void)
{
#if QK_X86
    if (qk_active() == &qk_kernels_portable) {
        return &hamming_portable;
    }
    return qk_active() == &qk_kernels_x86_v3 ? &hamming_x86_v3 : &hamming_avx512;
#else
    return &hamming_portable;
#endif
}

static int out_of_range(qk_hamming_frame f) { return f.bits < 1 || f.width < 0 || f.width > HAMMING_MAX_WIDTH; }

int qk_hamming_checks(uint64_t *sums, uint64_t *syndromes, const uint64_t *rows, const qk_hamming_frame *frames,
                      size_t n_frames, const uint32_t *orders, uint64_t *scratch, size_t scratch_words)
{
    for (size_t i = 0; i < n_frames; i++) {
        const qk_hamming_frame f = hamming_frame(frames, i);
        if (out_of_range(f) || hamming_shape(f).groups << f.width > scratch_words) {
            return QK_BAD_SIZE;
        }
        const qk_hamming_frame next = i + 1 < n_frames ? hamming_frame(frames, i + 1) : f;
        chosen()->checks(sums + f.sum, syndromes + f.syndrome, rows + f.row, orders + f.order, hamming_shape(f),
                         scratch, rows + (next.bits < f.bits ? f : next).row);
    }
    qk_wipe(scratch, scratch_words * sizeof *scratch);
    return QK_OK;
}

int qk_hamming_pick(uint64_t *out, size_t out_words, const uint64_t *syndromes, const uint64_t *flags,
                    const qk_hamming_frame *frames, size_t n_frames)
{
    struct bit_stream s = {.to = out, .n_words = out_words};
    for (size_t i = 0; i < n_frames; i++) {
        const qk_hamming_frame f = hamming_frame(frames, i);
        if (out_of_range(f) || !chosen()->pick(&s, syndromes + f.syndrome, flags + f.sum, hamming_shape(f))) {
            return QK_BAD_SIZE;
        }
    }
    if (s.n_held > 0) {
        if (s.at == s.n_words) {
            return QK_BAD_SIZE;
        }
        qk_store64(out + s.at++, s.held);
    }
    return s.at == out_words ? QK_OK : QK_BAD_SIZE;
}

int qk_hamming_invert(uint64_t *rows, uint64_t *found, uint64_t *syndromes, const uint64_t *flags,
                      const uint64_t *theirs, size_t their_words, const qk_hamming_frame *frames, size_t n_frames,
                      const uint32_t *orders)
{
    struct bit_stream s = {.from = theirs, .n_words = their_words};
    for (size_t i = 0; i < n_frames; i++) {
        const qk_hamming_frame f = hamming_frame(frames, i);
        if (out_of_range(f) ||
            !chosen()->invert(rows + f.row, found, (size_t)f.start, syndromes + f.syndrome, flags + f.sum, &s,
                              orders + f.order, (size_t)f.bits, hamming_shape(f))) {
            return QK_BAD_SIZE;
        }
    }
    return s.at == their_words ? QK_OK : QK_BAD_SIZE;
}

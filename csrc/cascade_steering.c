/* Cascade's numbers: how long blocks are. The same operations, in the same order, as cascade_steering.py and
 * odd_blocks.py: additions, multiplications, divisions and square roots, which IEEE 754 rounds alike everywhere. */
#include <math.h>

#include "cascade.h"

enum { ROOTS = 8 };

static double odd_share(double rate, int32_t length)
{
    double agree = 1.0 - 2.0 * rate;
    for (; length > 1; length >>= 1) {
        agree *= agree;
    }
    return (1.0 - agree) / 2.0;
}

static double mean_errors(double share)
{
    double root = 1.0 - 2.0 * share;
    for (int i = 0; i < ROOTS; i++) {
        root = sqrt(root);
    }
    const double t = (1.0 - root) / (1.0 + root);
    return (double)(1 << ROOTS) * (t + t * t * t / 3.0);
}

/* Error rate from `odd` of `blocks` blocks and the hint, if both agree; negative if blocks are too long to tell. */
static double estimate(const struct qk_cascade *b, double odd, double blocks, int32_t length, double sigmas,
                       double trusted)
{
    const double expected = odd_share(b->hint, length), off = odd - blocks * expected;
    double weight = blocks, share = odd / blocks;
    if (4.0 * (off * off) <= sigmas * sigmas * blocks) {
        weight = blocks + trusted;
        share = (odd + trusted * expected) / weight;
    }
    if (share >= 0.5 - 1.0 / sqrt(weight)) {
        return -1.0;
    }
    return mean_errors(share > 0.5 / weight ? share : 0.5 / weight) / length;
}

static void wish(struct frame *f, int what, int32_t count, int32_t block)
{
    f->wish = what;
    f->wish_count = count;
    f->wish_block = block;
}

static void cut_frame(struct qk_cascade *b, struct frame *f, int too_long, double trusted)
{
    const int32_t block = f->block, blocks = f->blocks;
    const double rate = too_long ? -1.0 : estimate(b, f->n_odd[0], blocks, block, b->sigmas_one, trusted);
    f->rate = rate < 0.0 ? b->errors_1 / block : rate;
    const double wanted = rate < 0.0 ? 2.0 * blocks : ceil(f->length * rate / b->errors_1);
    if (block > 1 && wanted >= 2.0 * blocks) {
        f->block = block / 2;
        f->blocks = (f->length + f->block - 1) / f->block;
        wish(f, HALVE, blocks, block);
        return;
    }
    f->cutting = 0;
    b->n_cutting--;
    if (block > 1 && wanted > blocks) {
        wish(f, HALVE, (int32_t)wanted - blocks, block);
    }
}

/* First blocks by the hint, then halved until a block holds as many errors as wanted; all frames with the longest
 * blocks together first tell whether blocks are too long, and correct the hint. */
void cascade_cut_first(struct qk_cascade *b)
{
    int32_t longest = 0;
    double odd = 0.0, blocks = 0.0;
    for (size_t i = 0; i < b->n_frames; i++) {
        const struct frame *f = cascade_frame(b, i);
        if (f->cutting && f->block > longest) {
            longest = f->block;
            odd = blocks = 0.0;
        }
        if (f->cutting && f->block == longest) {
            odd += f->n_odd[0];
            blocks += f->blocks;
        }
    }
    const double rate = estimate(b, odd, blocks, longest, b->sigmas_all, b->trusted_all);
    if (rate >= 0.0) {
        b->hint = rate;
    }
    const double trusted = blocks < b->trusted_one ? blocks : b->trusted_one;
    for (size_t i = 0; i < b->n_frames; i++) {
        struct frame *f = cascade_frame(b, i);
        if (f->cutting) {
            cut_frame(b, f, f->block == longest && rate < 0.0, trusted);
        }
    }
}

static void second_blocks(const struct qk_cascade *b, struct frame *f)
{
    double wanted = b->errors_2 / f->rate;
    const double most = f->length / 2.0 > 1.0 ? f->length / 2.0 : 1.0;
    wanted = wanted < most ? wanted : most;
    int32_t block = 1;
    while (2.0 * block <= wanted) {
        block *= 2;
    }
    const double share = 2.0 * (1.0 - block / wanted);
    wish(f, OPEN, (int32_t)(share * f->length / (2.0 * block)), block);
}

/* The blocks of the pass that opens next: the second or the third. */
void cascade_next_blocks(const struct qk_cascade *b, struct frame *f)
{
    if (f->opened == 1) {
        second_blocks(b, f);
    } else {
        wish(f, OPEN, 0, (f->length + b->blocks_3 - 1) / b->blocks_3);
    }
}

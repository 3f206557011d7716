/* Loops that the compiler turns into the tier's vectors: order of tags, scores of a string. */

static size_t backward(const int64_t *ticks, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 1; i < n; i++) {
        count += tags_load(ticks + i) < tags_load(ticks + i - 1);
    }
    return (size_t)count;
}

static void add_scores(int32_t *total, const int8_t *scores, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t score = scores[i];
        qk_store32(total + i, qk_load32(total + i) + (uint32_t)score);
    }
}

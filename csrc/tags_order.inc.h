/* Order of tags; a loop that the compiler turns into the tier's vectors. */

static size_t backward(const int64_t *ticks, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 1; i < n; i++) {
        count += tags_load(ticks + i) < tags_load(ticks + i - 1);
    }
    return (size_t)count;
}

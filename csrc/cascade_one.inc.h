/* No vectors: nodes are treated one by one. */

QK_INLINE int ask_eight(struct sink *s, const struct entry *e, int32_t limit)
{
    (void)s, (void)e, (void)limit;
    return 0;
}

QK_INLINE int tell_eight(struct source *s, struct entry *to, const struct entry *e, int32_t limit)
{
    (void)s, (void)to, (void)e, (void)limit;
    return 0;
}

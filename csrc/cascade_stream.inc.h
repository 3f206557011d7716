/* Past the caches: it will be long before the cell is needed. */
QK_INLINE void put_cell(uint64_t *cell, uint64_t key)
{
    _mm256_stream_si256((__m256i *)(void *)cell, _mm256_set_epi64x(0, 0, 0, (long long)key));
}
QK_INLINE void cells_put(void) { _mm_sfence(); }

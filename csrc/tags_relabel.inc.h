/* Labels of bytes by AVX2: 32 bytes below 16 are one shuffle; others are looked up. */

static uint8_t relabel(uint8_t *bytes, size_t n, const uint8_t *table)
{
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    const __m256i high = _mm256_set1_epi8((char)0xF0);
    __m256i most = _mm256_setzero_si256();
    uint8_t largest = 0, lanes[32];
    size_t i = 0;
    while (i < n) {
        size_t end = n;
        if (n - i >= 32) {
            const __m256i byte = _mm256_loadu_si256((const __m256i *)(const void *)(bytes + i));
            if (_mm256_testz_si256(byte, high)) {
                const __m256i label = _mm256_shuffle_epi8(low, byte);
                most = _mm256_max_epu8(most, label);
                _mm256_storeu_si256((__m256i *)(void *)(bytes + i), label);
                i += 32;
                continue;
            }
            end = i + 32;
        }
        for (; i < end; i++) {
            const uint8_t label = table[bytes[i]];
            bytes[i] = label;
            largest = label > largest ? label : largest;
        }
    }
    _mm256_storeu_si256((__m256i *)(void *)lanes, most);
    for (i = 0; i < sizeof lanes; i++) {
        largest = lanes[i] > largest ? lanes[i] : largest;
    }
    return largest;
}

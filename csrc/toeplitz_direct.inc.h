/* Toeplitz hash of short keys by the definition, 64 bits at a time.
 *
 * With the seed shifted up so that bit n - 1 becomes a multiple of 64, D[u] = sum over b of seed'[u + b] times
 * key[last - b] (127 bits each), and output word t is the low half of D[t + 1] plus the high half of D[t]. */

void TIER(toeplitz_direct)(uint64_t *out, size_t out_bits, const uint64_t *key, size_t n_bits, const uint64_t *seed,
                           uint64_t *scratch)
{
    const size_t key_words = pieces(n_bits, 64), out_words = pieces(out_bits, 64);
    const size_t seed_words = key_words + out_words + TOEPLITZ_SLACK_WORDS, seed_bits = n_bits + out_bits - 1;
    const size_t shift = 64 * key_words - n_bits + 1;
    uint64_t *shifted = scratch, *low = scratch + seed_words, *high = low + out_words + TOEPLITZ_SLACK_WORDS;
    for (size_t i = 0; i < seed_words; i++) {
        shifted[i] = bits_at(seed, (ptrdiff_t)pieces(seed_bits, 64), (ptrdiff_t)(64 * i) - (ptrdiff_t)shift);
    }
    for (size_t u = 0; u <= out_words; u += VL) {
        V low_sum = v_zero(), high_sum = v_zero();
        for (size_t b = 0; b < key_words; b++) {
            V product_high, product_low;
            v_product(&product_high, &product_low, v_load(shifted + u + b),
                      v_set1(qk_load64(key + (key_words - 1 - b))));
            low_sum = v_xor(low_sum, product_low);
            high_sum = v_xor(high_sum, product_high);
        }
        v_store(low + u, low_sum);
        v_store(high + u, high_sum);
    }
    for (size_t t = 0; t < out_words; t++) {
        qk_store64(out + t, low[t + 1] ^ high[t]);
    }
    if (out_bits & 63) {
        const uint64_t mask = ((uint64_t)1 << (out_bits & 63)) - 1;
        qk_store64(out + out_words - 1, qk_load64(out + out_words - 1) & mask);
    }
    qk_wipe(scratch, (seed_words + 2 * (out_words + TOEPLITZ_SLACK_WORDS)) * sizeof *scratch);
}

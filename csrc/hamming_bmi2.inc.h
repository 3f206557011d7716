/* Bits picked and spread by BMI2. */

QK_INLINE uint64_t compress(uint64_t x, uint64_t mask) { return _pext_u64(x, mask); }
QK_INLINE uint64_t spread(uint64_t x, uint64_t mask) { return _pdep_u64(x, mask); }
QK_INLINE unsigned count_ones(uint64_t x) { return (unsigned)__builtin_popcountll(x); }
QK_INLINE unsigned lowest_one(uint64_t x) { return (unsigned)__builtin_ctzll(x); }
QK_INLINE void ahead(const uint64_t *at) { __builtin_prefetch(at); }

/* Horner's rule of every tier; the contract is qk_poly_horner's, but out may be state. */
#ifndef POLY_TIERS_H
#define POLY_TIERS_H

#include "qk_internal.h"

typedef void poly_horner_function(uint64_t *out, const uint64_t *state, const uint64_t *key, const uint8_t *blocks,
                                  size_t n_blocks);

poly_horner_function poly_horner_portable;
#if QK_X86
poly_horner_function poly_horner_x86_v3;
poly_horner_function poly_horner_avx512;
poly_horner_function poly_horner_avx512_icl;
#endif

#endif

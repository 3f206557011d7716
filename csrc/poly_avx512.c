/* Horner's rule over GF(2^128) with PCLMULQDQ, three-way XOR and 32 registers. */
#include "poly_tiers.h"
#include "qk_target.h"

#if QK_X86
QK_BEGIN_AVX512
#define HORNER poly_horner_avx512
#include "poly_m128.inc.h"
QK_END
#else
typedef int no_x86_here;
#endif

/* Horner's rule over GF(2^128) with PCLMULQDQ. */
#include "poly_tiers.h"
#include "qk_target.h"

#if QK_X86
QK_BEGIN_X86_V3
#define HORNER poly_horner_x86_v3
#include "poly_m128.inc.h"
QK_END
#else
typedef int no_x86_here;
#endif

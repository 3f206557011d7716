/* Bit tools with AVX-512; words are counted in vectors. */
#include "bits.h"
#include "qk_target.h"

#if QK_X86
QK_BEGIN_AVX512_ICL
#include "bits_m512.inc.h"
QK_END

const struct qk_bits qk_bits_avx512_icl = {pack, unpack, gather, transpose, distance, encode, decode};
#else
typedef int no_x86_here;
#endif

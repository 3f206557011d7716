/* Cascade with AVX2 and BMI2: the compiler's own use of them. */
#include <math.h>
#include "cascade.h"

#if QK_X86
QK_BEGIN_X86_V3
#define TIER(name) name##_x86_v3
#include "cascade_bits.inc.h"

/* Past the caches: it will be long before the cell is needed. */
QK_INLINE void put_cell(uint64_t *cell, uint64_t key)
{
    _mm256_stream_si256((__m256i *)(void *)cell, _mm256_set_epi64x(0, 0, 0, (long long)key));
}
QK_INLINE void cells_put(void) { _mm_sfence(); }

#include "cascade_load.inc.h"
#include "cascade_ask.inc.h"
#include "cascade_nodes.inc.h"
#include "cascade_plan.inc.h"
#include "cascade_tell.inc.h"
#include "cascade_round.inc.h"
QK_END
#else
typedef int no_x86_here;
#endif

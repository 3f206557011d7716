/* Cascade with AVX2 and BMI2: the compiler's own use of them. */
#include <math.h>
#include "cascade.h"

#if QK_X86
QK_BEGIN_X86_V3
#define TIER(name) name##_x86_v3
#include "cascade_bits.inc.h"
#include "cascade_stream.inc.h"
#include "cascade_load.inc.h"
#include "cascade_ask.inc.h"
#include "cascade_one.inc.h"
#include "cascade_nodes.inc.h"
#include "cascade_settle.inc.h"
#include "cascade_plan.inc.h"
#include "cascade_tell.inc.h"
#include "cascade_round.inc.h"
QK_END
#else
typedef int no_x86_here;
#endif

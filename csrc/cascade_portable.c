/* Cascade on 64-bit words: the definition of the tiers. */
#include <math.h>
#include "cascade.h"

#define TIER(name) name##_portable
#include "cascade_bits.inc.h"

QK_INLINE void put_cell(uint64_t *cell, uint64_t key)
{
    const uint64_t fresh[CELL] = {key};
    memcpy(cell, fresh, sizeof fresh);
}
QK_INLINE void cells_put(void) {}

#include "cascade_load.inc.h"
#include "cascade_ask.inc.h"
#include "cascade_one.inc.h"
#include "cascade_nodes.inc.h"
#include "cascade_settle.inc.h"
#include "cascade_plan.inc.h"
#include "cascade_tell.inc.h"
#include "cascade_round.inc.h"

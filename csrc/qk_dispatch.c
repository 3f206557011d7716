/* Which tier runs: what the processor has and the operating system saves.
 *
 * __builtin_cpu_supports reads cpuid and the register state that the operating
 * system enabled, so a tier it grants can run. */
#include <stdatomic.h>

#include "qk_internal.h"

static const struct qk_kernels *const tiers[] = {
    &qk_kernels_portable,
#if QK_X86
    &qk_kernels_x86_v3,
    &qk_kernels_avx512,
    &qk_kernels_avx512_icl,
#endif
};

enum { N_TIERS = (int)(sizeof tiers / sizeof tiers[0]) };

static atomic_int active;

int qk_isa_count(void) { return N_TIERS; }

const char *qk_isa_name(int tier) { return tier < 0 || tier >= N_TIERS ? NULL : tiers[tier]->name; }

#if QK_X86
static int has_x86_v3(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("pclmul");
}

static int has_avx512(void)
{
    return has_x86_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static int has_avx512_icl(void)
{
    return has_avx512() && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

int qk_isa_supported(int tier)
{
    if (tier < 0 || tier >= N_TIERS) {
        return 0;
    }
#if QK_X86
    __builtin_cpu_init();
    if (tiers[tier] == &qk_kernels_x86_v3) {
        return has_x86_v3();
    }
    if (tiers[tier] == &qk_kernels_avx512) {
        return has_avx512();
    }
    if (tiers[tier] == &qk_kernels_avx512_icl) {
        return has_avx512_icl();
    }
#endif
    return 1;
}

int qk_isa(void) { return atomic_load_explicit(&active, memory_order_relaxed); }

int qk_set_isa(int tier)
{
    if (!qk_isa_supported(tier)) {
        return QK_BAD_TIER;
    }
    atomic_store_explicit(&active, tier, memory_order_relaxed);
    return QK_OK;
}

const struct qk_kernels *qk_active(void) { return tiers[qk_isa()]; }

void qk_wipe(void *at, size_t n)
{
    memset(at, 0, n);
#if defined(__GNUC__) || defined(__clang__)
    __asm__ volatile("" : : "r"(at) : "memory");
#else
    for (volatile unsigned char *p = at; n--; p++) {
        *p = 0;
    }
#endif
}

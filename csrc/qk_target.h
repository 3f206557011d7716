/* Regions of code compiled for one tier, whatever the flags of the command line:
 *
 *     QK_BEGIN_X86_V3 ... QK_END
 *
 * Intrinsics are declared before any region begins. */
#ifndef QK_TARGET_H
#define QK_TARGET_H

#include "qk_internal.h"

#if QK_X86
#include <immintrin.h>

#define QK_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define QK_BEGIN(features) \
    QK_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define QK_END QK_PRAGMA(clang attribute pop)
#else
#define QK_BEGIN(features) QK_PRAGMA(GCC push_options) QK_PRAGMA(GCC target(features))
#define QK_END QK_PRAGMA(GCC pop_options)
#endif

#define QK_BEGIN_X86_V3 QK_BEGIN("avx2,bmi,bmi2,popcnt,pclmul")
#define QK_BEGIN_AVX512 QK_BEGIN("avx2,bmi,bmi2,popcnt,pclmul,avx512f,avx512bw,avx512dq,avx512vl")
#define QK_BEGIN_AVX512_ICL \
    QK_BEGIN("avx2,bmi,bmi2,popcnt,pclmul,avx512f,avx512bw,avx512dq,avx512vl,vpclmulqdq,avx512vpopcntdq")
#endif

#if defined(__GNUC__) || defined(__clang__)
#define QK_INLINE static inline __attribute__((always_inline))
#else
#define QK_INLINE static inline
#endif

#endif

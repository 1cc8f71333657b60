// Compiler spellings for the engines: forced inlining and unrolling. The register blocks rely on
// both, in every build type but Debug.
#pragma once

#define MOTET_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define MOTET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MOTET_UNROLL _Pragma("GCC unroll 32")
#endif

// Compiler spellings for the hand-written loops of networks and training: forced inlining and
// unrolling, on which the register blocks rely in every build type but Debug, and the instruction
// set of all that follows.
#pragma once

#define MOTET_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define MOTET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MOTET_UNROLL _Pragma("GCC unroll 32")
#endif

// Between the two no header is included but the loops' own, whose functions have internal linkage:
// an inline function of the standard library compiled for AVX-512 could be the copy that the linker
// picks for all machines. g++ instantiates templates at the end of the file under the options in
// force there, so its target stays to the end.
#define MOTET_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define MOTET_BEGIN_TARGET(set) \
  MOTET_PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define MOTET_END_TARGET MOTET_PRAGMA(clang attribute pop)
#else
#define MOTET_BEGIN_TARGET(set) MOTET_PRAGMA(GCC target(set))
#define MOTET_END_TARGET
#endif

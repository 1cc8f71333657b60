// The training loops for processors with AVX2.
#if defined(__x86_64__) && !defined(__clang__)  // see train_lanes.inc
#define MOTET_SET avx2
#define MOTET_SET_TARGET "avx2,fma,bmi2"
#include "train_kernels.inc"
#endif

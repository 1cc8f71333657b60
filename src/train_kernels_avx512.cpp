// The training loops for processors with AVX-512.
#if defined(__x86_64__) && !defined(__clang__)  // see train_lanes.inc
#define MOTET_SET avx512
#define MOTET_SET_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,prefer-vector-width=512"
#include "train_kernels.inc"
#endif

// The training loops for any processor.
#define MOTET_SET baseline
#include "train_kernels.inc"

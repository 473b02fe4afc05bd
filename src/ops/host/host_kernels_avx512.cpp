#define FLEXGEN_KERNEL_SET avx512_kernels
#define FLEXGEN_KERNEL_SET_NAME "avx512"
#include "ops/host/host_kernels_body.hpp"

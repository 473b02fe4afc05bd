#define FLEXGEN_KERNEL_SET avx2_kernels
#define FLEXGEN_KERNEL_SET_NAME "avx2"
#include "ops/host/host_kernels_body.hpp"

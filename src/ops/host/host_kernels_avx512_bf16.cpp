#define FLEXGEN_KERNEL_SET avx512_bf16_kernels
#define FLEXGEN_KERNEL_SET_NAME "avx512_bf16"
#include "ops/host/host_kernels_body.hpp"

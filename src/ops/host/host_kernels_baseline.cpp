#define FLEXGEN_KERNEL_SET baseline_kernels
#define FLEXGEN_KERNEL_SET_NAME "baseline"
#include "ops/host/host_kernels_body.hpp"

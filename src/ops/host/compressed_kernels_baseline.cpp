#define FLEXGEN_COMPRESSED_SET baseline_compressed_kernels
#define FLEXGEN_COMPRESSED_SET_NAME "baseline"
#include "ops/host/compressed_kernels_body.hpp"

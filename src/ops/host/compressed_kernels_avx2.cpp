#define FLEXGEN_COMPRESSED_SET avx2_compressed_kernels
#define FLEXGEN_COMPRESSED_SET_NAME "avx2"
#include "ops/host/compressed_kernels_body.hpp"

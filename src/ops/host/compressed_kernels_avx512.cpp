#define FLEXGEN_COMPRESSED_SET avx512_compressed_kernels
#define FLEXGEN_COMPRESSED_SET_NAME "avx512"
#include "ops/host/compressed_kernels_body.hpp"

#define FLEXGEN_STORED_SET avx2_stored_kernels
#define FLEXGEN_STORED_SET_NAME "avx2"
#include "ops/host/stored/kernels_body.hpp"

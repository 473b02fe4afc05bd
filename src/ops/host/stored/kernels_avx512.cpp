#define FLEXGEN_STORED_SET avx512_stored_kernels
#define FLEXGEN_STORED_SET_NAME "avx512"
#include "ops/host/stored/kernels_body.hpp"

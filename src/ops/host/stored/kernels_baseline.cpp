#define FLEXGEN_STORED_SET baseline_stored_kernels
#define FLEXGEN_STORED_SET_NAME "baseline"
#include "ops/host/stored/kernels_body.hpp"

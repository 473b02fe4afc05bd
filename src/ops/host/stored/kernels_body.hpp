// Body of kernels_*.cpp; each of them compiles it for another instruction set.
#include "ops/host/stored/attention_body.hpp"
#include "ops/host/stored/decode_body.hpp"
#include "ops/host/stored/encode_body.hpp"
#include "ops/host/stored/stored_kernels.hpp"

namespace flexgen {

extern const StoredKernels FLEXGEN_STORED_SET = {
    FLEXGEN_STORED_SET_NAME, encode, decode,     arranged_floats,   arrange_query, collect_sums,
    scratch_floats,          scores, add_values, add_chosen_values,
};

}  // namespace flexgen

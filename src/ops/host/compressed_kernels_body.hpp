// Body of compressed_kernels_*.cpp; each of them compiles it for another instruction set.
#include "ops/host/compressed_decode_body.hpp"
#include "ops/host/compressed_encode_body.hpp"
#include "ops/host/compressed_kernels.hpp"
#include "ops/host/stored_attention_body.hpp"

namespace flexgen {

extern const CompressedKernels FLEXGEN_COMPRESSED_SET = {
    FLEXGEN_COMPRESSED_SET_NAME,
    encode,
    decode,
    arranged_floats,
    arrange_query,
    collect_sums,
    scratch_floats,
    scores,
    add_values,
    add_chosen_values,
};

}  // namespace flexgen

// Products of some dozens of tokens with compressed weights by warpgroup instructions, compiled for sm_90a alone.
#pragma once

#include "ops/context.hpp"
#include "ops/linear.hpp"

namespace flexgen {

/// From 17 to 512 tokens in float16 or bfloat16, inputs a multiple of 128, rows on 16-byte boundaries, a GPU of compute
/// capability 9.x. The weights must not be what the kernel before in the stream writes.
bool linear_compressed_tiles_takes(const OpContext& context, const LinearArgs& args);
void linear_compressed_tiles_cuda(const OpContext& context, const LinearArgs& args);

}  // namespace flexgen

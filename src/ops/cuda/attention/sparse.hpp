// The piece of attention for single tokens that leaves values out (AttentionArgs::sparsity). The rules of
// cuda_kernels.hpp hold.
#pragma once

#include "ops/context.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

struct DecodeParams;

/// Rows of count 1; `p` as for general_kernel, `longest` the positions of the longest of them. A block's shared memory
/// bounds that: 14,000 on every GPU; throws UserError (does_not_fit) beyond.
void attend_sparsely(const OpContext& context, const DecodeParams& p, DType dtype, float sparsity, int longest);

}  // namespace flexgen

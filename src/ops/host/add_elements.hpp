// out = x + y over `count` elements of one dtype, by pieces that stay in the L1 cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spec/dtype.hpp"

namespace flexgen {

/// Sums in float32, rounds once. `out` may be x or y.
void add_elements(const std::byte* x, const std::byte* y, std::byte* out, DType dtype, std::int64_t count);

}  // namespace flexgen

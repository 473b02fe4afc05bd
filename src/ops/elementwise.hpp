// Conversions and sums of whole matrices.
#pragma once

#include <cstdint>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// out[t, :] = x[t, :] + y[t, :], same dtype, accumulated in float32. `out` may be x or y.
void add(const OpContext& context, const MatrixView& x, const MatrixView& y, const MatrixView& out);

/// `count` bytes, which do not overlap. Both in memory that the computing device reads: on a GPU `from` may be pinned
/// memory of the host. It is then a kernel that reads it, which does not queue behind the copies of other streams.
void copy_bytes(const OpContext& context, const std::byte* from, std::byte* to, std::uint64_t count);

/// Host memory: converts `count` elements between dtypes (round to nearest even), several threads for large counts.
void convert_elements(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype, std::uint64_t count);

/// Host memory: pseudo-random weights, uniform in +-`scale`, a pure function of (seed, index): any slice of a tensor
/// can be made on its own. Element i of the slice is element first_index + i of the stream.
void fill_random(std::byte* to, DType dtype, std::uint64_t count, float scale, std::uint64_t seed,
                 std::uint64_t first_index);

}  // namespace flexgen

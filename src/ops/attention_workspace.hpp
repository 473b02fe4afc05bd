// What attention on a GPU takes from a workspace: arithmetic that the kernels' launches and those who plan memory
// share, the latter on machines without a GPU, too.
#pragma once

#include <cstdint>

#include "ops/attention.hpp"

namespace flexgen {

/// Pieces into which the positions of a row of one token are cut at most (cuda/attention/decode.cuh).
inline constexpr int kMaxSplits = 4;

/// Sums and softmax states of so many parts of each head of each row.
std::uint64_t partial_sum_bytes(std::int64_t num_rows, std::int32_t num_heads, std::int32_t head_dim, int splits);
std::uint64_t partial_state_bytes(std::int64_t num_rows, std::int32_t num_heads, int splits);

/// Parts of spans for which there is room at a time: all of one row's, in any case.
std::int64_t part_room(std::int64_t num_rows, std::int64_t longest_shared);

/// How many of so many rows of a compressed cache are dequantized at a time, and into how much.
struct DequantizedRows {
  std::int64_t rows;
  std::uint64_t cache_bytes;
  std::uint64_t table_bytes;
};
DequantizedRows dequantized_rows_of(std::int64_t num_rows, std::int64_t longest, std::int64_t num_heads,
                                    std::int64_t head_dim, DType dtype);

}  // namespace flexgen

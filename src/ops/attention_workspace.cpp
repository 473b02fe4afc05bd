#include "ops/attention_workspace.hpp"

#include <algorithm>

#include "ops/softmax_merge.hpp"
#include "spec/block_limits.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kDequantizedBytes = 128LL << 20;  // enough rows to fill a GPU; a longer row goes alone
constexpr std::int64_t kRowParts = 8;  // of spans, for which there is room; where rows have more, fewer go at a time

std::uint64_t rounded(std::uint64_t bytes) { return (bytes + 255) / 256 * 256; }  // as Workspace::take aligns

// Whatever the rows' lengths: of `longest` it matters that with a compressed cache no row of count > 1 has more
// positions, and that no row shares more.
std::uint64_t workspace_on_gpu(const AttentionSizes& most) {
  const auto heads = static_cast<std::int32_t>(most.num_heads), head_dim = static_cast<std::int32_t>(most.head_dim);
  std::uint64_t single = rounded(partial_sum_bytes(most.rows, heads, head_dim, kMaxSplits)) +
                         rounded(partial_state_bytes(most.rows, heads, kMaxSplits));
  if (most.shares_spans) {
    const std::int64_t parts = part_room(most.rows, most.longest);
    single += rounded(partial_sum_bytes(parts, heads, head_dim, 1)) + rounded(partial_state_bytes(parts, heads, 1));
  }
  std::uint64_t dequantized = 0;
  if (!most.quant.is_none()) {  // the most of rows, which shorter ones may need more of, and of bytes
    const DequantizedRows each = dequantized_rows_of(most.rows, most.longest, heads, head_dim, most.dtype);
    const DequantizedRows shorter = dequantized_rows_of(most.rows, 1, heads, head_dim, most.dtype);
    const std::uint64_t row_bytes = each.cache_bytes / static_cast<std::uint64_t>(std::max<std::int64_t>(each.rows, 1));
    const std::uint64_t all_rows = row_bytes * static_cast<std::uint64_t>(most.rows);
    dequantized = rounded(std::max(each.cache_bytes, std::min<std::uint64_t>(kDequantizedBytes, all_rows))) +
                  rounded(shorter.table_bytes);
  }
  return std::max(single, dequantized) + 256;
}

}  // namespace

std::uint64_t partial_sum_bytes(std::int64_t num_rows, std::int32_t num_heads, std::int32_t head_dim, int splits) {
  return static_cast<std::uint64_t>(num_rows * num_heads * splits * head_dim) * sizeof(float);
}

std::uint64_t partial_state_bytes(std::int64_t num_rows, std::int32_t num_heads, int splits) {
  return static_cast<std::uint64_t>(num_rows * num_heads * splits) * sizeof(SoftmaxState);
}

std::int64_t part_room(std::int64_t num_rows, std::int64_t longest_shared) {
  return std::max(num_rows * kRowParts, longest_shared / prefix_grain);
}

DequantizedRows dequantized_rows_of(std::int64_t num_rows, std::int64_t longest, std::int64_t num_heads,
                                    std::int64_t head_dim, DType dtype) {
  const std::int64_t row_bytes = longest * 2 * num_heads * head_dim * static_cast<std::int64_t>(element_bytes(dtype));
  const std::int64_t rows = std::clamp<std::int64_t>(row_bytes > 0 ? kDequantizedBytes / row_bytes : num_rows, 1,
                                                     std::max<std::int64_t>(num_rows, 1));
  return {rows, static_cast<std::uint64_t>(rows * row_bytes),
          static_cast<std::uint64_t>(rows * num_heads) * sizeof(KvHead)};
}

std::uint64_t attention_workspace_bytes(const Device& device, const AttentionSizes& most) {
  return device.is_cuda() ? workspace_on_gpu(most) : 0;
}

}  // namespace flexgen

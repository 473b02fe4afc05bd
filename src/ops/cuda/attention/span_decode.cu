// Launch of the kernel for single tokens over what their rows share.
#include <algorithm>

#include "ops/cuda/attention/span_decode.cuh"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

template <typename T, int kSteps>
void launch(const OpContext& context, const SpanDecodeParams& p, dim3 grid) {
  auto* kernel = p.decode.bits == 0   ? span_kernel<T, kSteps, PlainTiles<T, kSteps>>
                 : p.decode.bits == 4 ? span_kernel<T, kSteps, StoredTiles<T, kSteps, 4>>
                                      : span_kernel<T, kSteps, StoredTiles<T, kSteps, 8>>;
  launch_dependent(context, kernel, grid, kPrefillThreads, p, "launch of span_kernel");
}

template <typename T>
void launch(const OpContext& context, const SpanDecodeParams& p, dim3 grid) {
  const int steps = (p.decode.head_dim + 15) / 16;
  if (steps <= 4) launch<T, 4>(context, p, grid);
  else if (steps <= 6) launch<T, 6>(context, p, grid);
  else launch<T, 8>(context, p, grid);
}

}  // namespace

void attend_spans(const OpContext& context, const DecodeParams& decode, DType dtype, const SharedSpans& shared,
                  const SpanRows& rows) {
  int most_rows = 1, most_pieces = 1;
  for (std::int32_t s = 0; s < shared.num_spans; ++s) {
    most_rows = std::max(most_rows, shared.host_spans[s].num_rows);
    most_pieces = std::max(most_pieces, pieces_of(shared.host_spans[s].length).count);
  }
  const SpanDecodeParams p{decode, rows, (std::min(most_rows, rows.count) + kQueryTile - 1) / kQueryTile};
  FLEXGEN_CHECK(decode.num_heads <= 65535 && shared.num_spans <= 65535, "attention: too many spans or heads in a call");
  const dim3 grid(static_cast<unsigned>(p.row_tiles * most_pieces), static_cast<unsigned>(decode.num_heads),
                  static_cast<unsigned>(shared.num_spans));
  if (dtype == DType::bfloat16) launch<__nv_bfloat16>(context, p, grid);
  else launch<__half>(context, p, grid);
}

}  // namespace flexgen

#include "weights/weight_compressor.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.hpp"
#include "ops/quantize.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t tile_elements = 65536;  // restored at a time: stays in the caches
constexpr std::int64_t rows_at_once = 4;

MatrixView float_rows(float* data, std::int64_t rows, std::int64_t cols) {
  return contiguous_view(reinterpret_cast<std::byte*>(data), rows, cols, DType::float32);
}

// sum over c of (plain - restored)[r][c] * mean[c], each row's in order; several rows fill each other's waits.
template <std::int64_t Rows>
void sum_losses(const float* plain, const float* restored, const float* mean, std::int64_t cols, float* sums) {
  std::array<float, Rows> sum{};
  for (std::int64_t c = 0; c < cols; ++c)
    for (std::int64_t r = 0; r < Rows; ++r) sum[r] += (plain[r * cols + c] - restored[r * cols + c]) * mean[c];
  std::ranges::copy(sum, sums);
}

}  // namespace

void WeightCompressor::produce(const LayerDescription& layer, std::size_t index, const QuantFormat& format,
                               std::uint64_t begin, std::uint64_t end, std::byte* to) {
  const WeightSpec& weight = layer.weights[index];
  const auto row_bytes = static_cast<std::uint64_t>(format.row_bytes(weight.cols));
  Rows rows;
  rows.first = static_cast<std::int64_t>(begin / row_bytes);
  rows.count = static_cast<std::int64_t>((end + row_bytes - 1) / row_bytes) - rows.first;
  const std::uint64_t at = static_cast<std::uint64_t>(rows.first) * row_bytes;
  compressed_.resize(static_cast<std::uint64_t>(rows.count) * row_bytes);
  if (source_is_compressed_) {
    reader_.produce_compressed(weight, format, rows.first, rows.count, compressed_.data());
  } else {
    quantize(layer, weight, format, rows);
    if (const std::span<const float> mean = corrections_.mean_input(layer, weight, reader_); !mean.empty()) {
      // A row that is cut is compressed twice; where it begins its correction is told.
      const std::int64_t own = begin > at ? 1 : 0;
      find_corrections(weight, format, {own, rows.count - own}, mean);
      corrections_.tell(weight, rows.first + own, sums_);
    }
  }
  std::memcpy(to, compressed_.data() + (begin - at), end - begin);
}

void WeightCompressor::quantize(const LayerDescription& layer, const WeightSpec& weight, const QuantFormat& format,
                                const Rows& rows) {
  plain_.resize(static_cast<std::size_t>(rows.count * weight.cols));
  const WeightPiece piece{&weight, rows.first * weight.cols, rows.count * weight.cols,
                          reinterpret_cast<std::byte*>(plain_.data())};
  reader_.produce({&piece, 1}, DType::float32);
  const MatrixView stored = contiguous_view(compressed_.data(), rows.count, weight.cols, DType::float32, format);
  if (!quantize_rows(float_rows(plain_.data(), rows.count, weight.cols), stored, weight_refinements))
    throw UserError(ExitCode::model, fmt::format("'{}' of {} cannot be compressed", weight.name, layer.name),
                    "it holds a NaN or an infinity", "The checkpoint is damaged, or run it without --compress-weight");
}

// Of these of the rows in hand.
void WeightCompressor::find_corrections(const WeightSpec& weight, const QuantFormat& format, const Rows& rows,
                                        std::span<const float> mean) {
  const std::int64_t cols = weight.cols;
  const std::int64_t tile_rows = std::max(rows_at_once, tile_elements / cols);
  restored_.resize(static_cast<std::size_t>(tile_rows * cols));
  sums_.resize(static_cast<std::size_t>(rows.count));
  for (std::int64_t done = 0; done < rows.count; done += tile_rows) {
    const std::int64_t count = std::min(tile_rows, rows.count - done);
    const std::int64_t first = rows.first + done;
    dequantize_rows(
        {}, contiguous_view(compressed_.data() + first * format.row_bytes(cols), count, cols, DType::float32, format),
        float_rows(restored_.data(), count, cols));
    const float* plain = plain_.data() + first * cols;
    float* sums = sums_.data() + done;
    std::int64_t r = 0;
    for (; r + rows_at_once <= count; r += rows_at_once)
      sum_losses<rows_at_once>(plain + r * cols, restored_.data() + r * cols, mean.data(), cols, sums + r);
    for (; r < count; ++r) sum_losses<1>(plain + r * cols, restored_.data() + r * cols, mean.data(), cols, sums + r);
  }
}

}  // namespace flexgen

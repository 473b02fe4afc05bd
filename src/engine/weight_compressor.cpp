#include "engine/weight_compressor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <future>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "ops/elementwise.hpp"
#include "ops/quantize.hpp"

namespace flexgen {
namespace {
constexpr std::uint64_t chunk_bytes = 16 * MiB;  // of plain rows
}

void WeightCompressor::read(const WeightSpec& weight, std::int64_t first_row, std::int64_t num_rows,
                            std::vector<float>& to) {
  const WeightPiece piece{&weight, first_row * weight.cols, num_rows * weight.cols,
                          reinterpret_cast<std::byte*>(to.data())};
  source_.produce({&piece, 1}, DType::float32);
}

void WeightCompressor::produce(const LayerDescription& layer, std::size_t index, const QuantFormat& format,
                               std::uint64_t begin, std::uint64_t end, std::byte* to) {
  const WeightSpec& weight = layer.weights[index];
  const auto row_bytes = static_cast<std::uint64_t>(format.row_bytes(weight.cols));
  const auto first_row = static_cast<std::int64_t>(begin / row_bytes);
  const auto end_row = static_cast<std::int64_t>((end + row_bytes - 1) / row_bytes);
  const std::int64_t chunk_rows =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(chunk_bytes / sizeof(float)) / weight.cols);
  compressed_.resize(static_cast<std::size_t>(chunk_rows) * row_bytes);
  const auto copy_out = [&](std::int64_t row, std::int64_t count) {
    const std::uint64_t at = static_cast<std::uint64_t>(row) * row_bytes;
    const std::uint64_t from = std::max(begin, at);
    const std::uint64_t until = std::min(end, at + static_cast<std::uint64_t>(count) * row_bytes);
    std::memcpy(to + (from - begin), compressed_.data() + (from - at), until - from);
  };
  const auto rows_at = [&](std::int64_t row) { return std::min(chunk_rows, end_row - row); };

  if (source_.produce_compressed(weight, format, first_row, rows_at(first_row), compressed_.data())) {
    for (std::int64_t row = first_row; row < end_row; row += chunk_rows) {
      if (row != first_row) source_.produce_compressed(weight, format, row, rows_at(row), compressed_.data());
      copy_out(row, rows_at(row));
    }
    return;
  }
  for (auto& rows : plain_) rows.resize(static_cast<std::size_t>(chunk_rows * weight.cols));
  read(weight, first_row, rows_at(first_row), plain_[0]);
  std::size_t turn = 0;
  for (std::int64_t row = first_row; row < end_row; row += chunk_rows, turn = 1 - turn) {
    std::future<void> ahead;
    if (const std::int64_t next = row + chunk_rows; next < end_row)
      ahead = std::async(std::launch::async, [&, next] { read(weight, next, rows_at(next), plain_[1 - turn]); });
    quantize(layer, weight, format, row, rows_at(row), plain_[turn].data());
    copy_out(row, rows_at(row));
    if (ahead.valid()) ahead.get();
  }
}

void WeightCompressor::quantize(const LayerDescription& layer, const WeightSpec& weight, const QuantFormat& format,
                                std::int64_t first_row, std::int64_t num_rows, float* plain) {
  const MatrixView from = contiguous_view(reinterpret_cast<std::byte*>(plain), num_rows, weight.cols, DType::float32);
  const MatrixView stored = contiguous_view(compressed_.data(), num_rows, weight.cols, DType::float32, format);
  if (!quantize_rows(from, stored, weight_refinements))
    throw UserError(ExitCode::model, fmt::format("'{}' of {} cannot be compressed", weight.name, layer.name),
                    "it holds a NaN or an infinity", "The checkpoint is damaged, or run it without --compress-weight");
  if (weight.mean_input < 0) return;

  if (corrected_ != &weight) {
    const WeightSpec& mean = layer.weights[static_cast<std::size_t>(weight.mean_input)];
    mean_input_.resize(static_cast<std::size_t>(mean.num_elements()));
    read(mean, 0, 1, mean_input_);
    correction_.assign(static_cast<std::size_t>(weight.rows), 0.0F);
    corrected_ = &weight;
  }
  restored_.resize(static_cast<std::size_t>(num_rows * weight.cols));
  dequantize_rows(
      {}, stored,
      contiguous_view(reinterpret_cast<std::byte*>(restored_.data()), num_rows, weight.cols, DType::float32));
  for (std::int64_t r = 0; r < num_rows; ++r) {
    float sum = 0.0F;
    for (std::int64_t c = 0; c < weight.cols; ++c)
      sum += (plain[r * weight.cols + c] - restored_[static_cast<std::size_t>(r * weight.cols + c)]) *
             mean_input_[static_cast<std::size_t>(c)];
    correction_[static_cast<std::size_t>(first_row + r)] = sum;
  }
}

void WeightCompressor::correct_bias(const LayerDescription& layer, std::size_t index, std::int64_t first,
                                    std::int64_t count, std::byte* bias, DType dtype) {
  if (index == 0 || corrected_ != &layer.weights[index - 1]) return;
  const auto n = static_cast<std::uint64_t>(count);
  std::vector<float> values(n);
  auto* raw = reinterpret_cast<std::byte*>(values.data());
  convert_elements(bias, dtype, raw, DType::float32, n);
  for (std::uint64_t i = 0; i < n; ++i) values[i] += correction_[static_cast<std::size_t>(first) + i];
  convert_elements(raw, DType::float32, bias, dtype, n);
}

}  // namespace flexgen

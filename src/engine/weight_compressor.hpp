// Compresses weights on their way from the source to their homes, some rows at a time, while the next rows are read.
//
// What rounding adds to a layer's outputs on average, with inputs that lie about the bias of the LayerNorm before it,
// is taken off the layer's own bias: that costs a product with one vector and makes the compressed model better
// (decisions/0005-compression.md). Not thread-safe; used by the thread that fills a WeightStore.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/weight_source.hpp"
#include "spec/layer_description.hpp"

namespace flexgen {

class WeightCompressor {
 public:
  explicit WeightCompressor(WeightSource& source) : source_(source) {}

  /// Writes bytes [begin, end) of weight `index` of the layer as stored in `format` to `to` (host memory).
  /// Throws UserError (model) for a matrix that holds a NaN or an infinity.
  void produce(const LayerDescription& layer, std::size_t index, const QuantFormat& format, std::uint64_t begin,
               std::uint64_t end, std::byte* to);

  /// Adds to elements [first, first + count) of a bias what belongs to the matrix before it, whose rows were all
  /// produced last; nothing where the source was compressed already.
  void correct_bias(const LayerDescription& layer, std::size_t index, std::int64_t first, std::int64_t count,
                    std::byte* bias, DType dtype);

 private:
  void quantize(const LayerDescription& layer, const WeightSpec& weight, const QuantFormat& format,
                std::int64_t first_row, std::int64_t num_rows, float* plain);
  void read(const WeightSpec& weight, std::int64_t first_row, std::int64_t num_rows, std::vector<float>& to);

  WeightSource& source_;
  std::vector<float> plain_[2];  // rows being compressed, rows being read
  std::vector<std::byte> compressed_;
  std::vector<float> restored_;
  const WeightSpec* corrected_ = nullptr;  // whose corrections these are
  std::vector<float> mean_input_;
  std::vector<float> correction_;  // [rows]
};

}  // namespace flexgen

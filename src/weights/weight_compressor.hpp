// Compresses rows of weights on their way from the source to their homes.
//
// What rounding adds to a layer's outputs on average, with inputs that lie about the bias of the LayerNorm before it,
// is taken off the layer's own bias: that costs a product with one vector and makes the compressed model better
// (decisions/0005-compression.md). One thread's own, as its reader; threads share the corrections.
#pragma once

#include <cstdint>
#include <vector>

#include "spec/layer_description.hpp"
#include "weights/bias_corrections.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {

class WeightCompressor {
 public:
  /// @param source_is_compressed  rows come as they are stored
  WeightCompressor(WeightReader& reader, bool source_is_compressed, BiasCorrections& corrections)
      : reader_(reader), source_is_compressed_(source_is_compressed), corrections_(corrections) {}

  /// Writes bytes [begin, end) of weight `index` of the layer as stored in `format` to `to` (host memory), and tells
  /// the corrections of the rows that begin there. Throws UserError (model) for a matrix that holds a NaN or an
  /// infinity.
  void produce(const LayerDescription& layer, std::size_t index, const QuantFormat& format, std::uint64_t begin,
               std::uint64_t end, std::byte* to);

 private:
  struct Rows {
    std::int64_t first = 0;
    std::int64_t count = 0;
  };
  void quantize(const LayerDescription& layer, const WeightSpec& weight, const QuantFormat& format, const Rows& rows);
  void find_corrections(const WeightSpec& weight, const QuantFormat& format, const Rows& rows,
                        std::span<const float> mean);

  WeightReader& reader_;
  const bool source_is_compressed_;
  BiasCorrections& corrections_;
  std::vector<float> plain_;  // [rows, cols]
  std::vector<std::byte> compressed_;
  std::vector<float> restored_;
  std::vector<float> sums_;  // [rows]
};

}  // namespace flexgen

// What compression adds to a layer's outputs on average, on its way to the layer's biases.
//
// Rows of a matrix are compressed by many threads; the bias that follows the matrix is corrected once all of them are
// known (decisions/0005-compression.md). Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "weights/weight_image.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {

/// Thrown by await() in threads whose fellows have failed.
struct Cancelled {};

class BiasCorrections {
 public:
  /// Of the compressed matrices in these images whose mean input is known.
  explicit BiasCorrections(std::span<const WeightImage> images);

  /// The vector about which the inputs of this matrix lie [cols], read by whoever asks first; empty: its bias is not
  /// corrected.
  std::span<const float> mean_input(const LayerDescription& layer, const WeightSpec& matrix, WeightReader& reader);
  /// Corrections of rows [first_row, ...) of the matrix; each row is told once.
  void tell(const WeightSpec& matrix, std::int64_t first_row, std::span<const float> rows);
  /// Waits for all rows of the matrix before weight `index`; empty: that weight is no bias that is corrected.
  std::span<const float> await(const LayerDescription& layer, std::size_t index);
  void cancel();

 private:
  struct Correction {
    std::mutex mean_mutex;          // no std::call_once: under the thread sanitizer one that throws hangs the others
    std::vector<float> mean_input;  // empty: nobody has read it
    std::vector<float> rows;
    std::int64_t num_told = 0;
  };

  std::map<const WeightSpec*, Correction> corrections_;  // the map itself does not change
  std::mutex mutex_;
  std::condition_variable told_;
  bool cancelled_ = false;
};

}  // namespace flexgen

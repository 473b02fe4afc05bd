#include "weights/bias_corrections.hpp"

#include <algorithm>
#include <utility>

namespace flexgen {

BiasCorrections::BiasCorrections(std::span<const WeightImage> images) {
  for (const WeightImage& image : images)
    for (const StoredWeight& stored : image.weights) {
      const WeightSpec& weight = image.layer->weights[stored.index];
      if (stored.format.is_none() || weight.mean_input < 0) continue;
      corrections_[&weight].rows.assign(static_cast<std::size_t>(weight.rows), 0.0F);
    }
}

std::span<const float> BiasCorrections::mean_input(const LayerDescription& layer, const WeightSpec& matrix,
                                                   WeightReader& reader) {
  const auto found = corrections_.find(&matrix);
  if (found == corrections_.end()) return {};
  Correction& correction = found->second;
  const std::lock_guard lock(correction.mean_mutex);
  if (correction.mean_input.empty()) {
    const WeightSpec& mean = layer.weights[static_cast<std::size_t>(matrix.mean_input)];
    std::vector<float> values(static_cast<std::size_t>(mean.num_elements()));
    const WeightPiece piece{&mean, 0, mean.num_elements(), reinterpret_cast<std::byte*>(values.data())};
    reader.produce({&piece, 1}, DType::float32);
    correction.mean_input = std::move(values);
  }
  return correction.mean_input;
}

void BiasCorrections::tell(const WeightSpec& matrix, std::int64_t first_row, std::span<const float> rows) {
  Correction& correction = corrections_.at(&matrix);
  const std::lock_guard lock(mutex_);
  std::ranges::copy(rows, correction.rows.begin() + first_row);
  correction.num_told += static_cast<std::int64_t>(rows.size());
  if (correction.num_told == matrix.rows) told_.notify_all();
}

std::span<const float> BiasCorrections::await(const LayerDescription& layer, std::size_t index) {
  if (index == 0) return {};
  const WeightSpec& matrix = layer.weights[index - 1];
  const auto found = corrections_.find(&matrix);
  if (found == corrections_.end()) return {};
  std::unique_lock lock(mutex_);
  told_.wait(lock, [&] { return cancelled_ || found->second.num_told == matrix.rows; });
  if (cancelled_) throw Cancelled{};
  return found->second.rows;
}

void BiasCorrections::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  told_.notify_all();
}

}  // namespace flexgen

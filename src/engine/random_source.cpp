#include <functional>
#include <string_view>

#include "engine/weight_source.hpp"
#include "ops/elementwise.hpp"

namespace flexgen {
namespace {

// FNV-1a: the same on every machine, which std::hash does not promise.
std::uint64_t seed_of(std::string_view name) {
  std::uint64_t hash = 1469598103934665603ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

class RandomSource final : public WeightSource {
 public:
  void require(std::span<const LayerDescription>) const override {}

  void produce(std::span<const WeightPiece> pieces, DType dtype) override {
    for (const WeightPiece& piece : pieces) {
      const WeightSpec& weight = *piece.weight;
      const std::uint64_t seed = seed_of(weight.sources.front().keys.front());
      const auto count = static_cast<std::uint64_t>(piece.count);
      const auto first = static_cast<std::uint64_t>(piece.first);
      if (weight.random_center == 0) {
        fill_random(piece.destination, dtype, count, weight.random_scale, seed, first);
        continue;
      }
      // LayerNorm weights: short vectors about a centre.
      std::vector<float> values(count);
      auto* raw = reinterpret_cast<std::byte*>(values.data());
      fill_random(raw, DType::float32, count, weight.random_scale, seed, first);
      for (float& value : values) value += weight.random_center;
      convert_elements(raw, DType::float32, piece.destination, dtype, count);
    }
  }

  bool in_place(const WeightSpec&, std::int64_t, std::int64_t, DType, std::vector<FileExtent>&) const override {
    return false;
  }
};

}  // namespace

std::unique_ptr<WeightSource> make_random_source() { return std::make_unique<RandomSource>(); }

}  // namespace flexgen

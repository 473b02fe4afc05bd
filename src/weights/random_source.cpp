#include <cstring>
#include <functional>
#include <string_view>

#include "base/fnv.hpp"
#include "ops/elementwise.hpp"
#include "ops/parallel_for.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {
namespace {

// From a beginning of its own, which made-up weights are known by.
std::uint64_t seed_of(std::string_view name) {
  std::uint64_t hash = 1469598103934665603ULL;
  for (const char c : name) hash = fnv_add(hash, static_cast<unsigned char>(c));
  return hash;
}

// SplitMix64's finish (Steele, Lea and Flood 2014).
std::uint64_t mix(std::uint64_t x) {
  x *= 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

class RandomReader final : public WeightReader {
 public:
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

  // Values as even as those above, without the detour over them.
  void produce_compressed(const WeightSpec& weight, const QuantFormat& format, std::int64_t first, std::int64_t count,
                          std::byte* to) override {
    const std::uint64_t seed = seed_of(weight.sources.front().keys.front());
    const auto steps = static_cast<float>((1 << format.bits) - 1);
    const float group[2] = {2 * weight.random_scale / steps, weight.random_center - weight.random_scale};
    std::uint16_t parameters[2];
    convert_elements(reinterpret_cast<const std::byte*>(group), DType::float32,
                     reinterpret_cast<std::byte*>(parameters), DType::float16, 2);
    const std::int64_t row_bytes = format.row_bytes(weight.cols);
    const std::int64_t words = format.code_bytes(weight.cols) / 4;
    parallel_for(count, true, [&](std::int64_t r) {
      auto* codes = reinterpret_cast<std::uint32_t*>(to + r * row_bytes);
      std::memset(codes, 0, static_cast<std::size_t>(row_bytes));
      const auto at = static_cast<std::uint64_t>((first + r) * words);
      for (std::int64_t i = 0; i < words; ++i)
        codes[i] = static_cast<std::uint32_t>(mix(seed + at + static_cast<std::uint64_t>(i)) >> 32);
      auto* groups = to + r * row_bytes + format.row_parameter_offset(weight.cols);
      for (std::int64_t g = 0; g < format.num_groups(weight.cols); ++g) std::memcpy(groups + 4 * g, parameters, 4);
    });
  }
};

class RandomSource final : public WeightSource {
 public:
  void require(std::span<const LayerDescription>) const override {}
  std::unique_ptr<WeightReader> make_reader() const override { return std::make_unique<RandomReader>(); }
  bool is_compressed() const override { return true; }
  bool in_place(const WeightSpec&, std::int64_t, std::int64_t, DType, std::vector<FileExtent>&) const override {
    return false;
  }
};

}  // namespace

std::unique_ptr<WeightSource> make_random_source() { return std::make_unique<RandomSource>(); }

}  // namespace flexgen

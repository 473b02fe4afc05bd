// What the engine's own ops reach on one device, at the sizes that jobs use: the part of a hardware profile that
// predictions stand on, where its ceilings bound. Plain immutable data.
//
// Measured on all threads that ops have there, with operands that no cache holds from call to call. `bits` is 4 or 8
// for what is stored in codes, else 0.
#pragma once

#include <cstdint>
#include <vector>

#include "base/fields.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

/// The matrix product [tokens, size] x [size, size].
struct ProductRate {
  DType dtype = DType::float32;
  int bits = 0;  // of the weight
  std::int64_t tokens = 0;
  std::int64_t size = 0;
  double operations_per_second = 0;  // a multiply-add counts as two
  static constexpr auto fields() {
    return std::tuple(field("dtype", &ProductRate::dtype), field("bits", &ProductRate::bits),
                      field("tokens", &ProductRate::tokens), field("size", &ProductRate::size),
                      field("operations_per_second", &ProductRate::operations_per_second));
  }
  bool operator==(const ProductRate&) const = default;
};

/// Attention of rows that bring one token each, over caches of so many positions.
struct CacheReadRate {
  DType dtype = DType::float32;
  int bits = 0;  // of the cache
  std::int64_t positions = 0;
  double bytes_per_second = 0;  // of keys and values as they are stored
  static constexpr auto fields() {
    return std::tuple(field("dtype", &CacheReadRate::dtype), field("bits", &CacheReadRate::bits),
                      field("positions", &CacheReadRate::positions),
                      field("bytes_per_second", &CacheReadRate::bytes_per_second));
  }
  bool operator==(const CacheReadRate&) const = default;
};

/// Attention of prompts of so many tokens, and what writes their keys and values to the cache.
struct PromptRate {
  DType dtype = DType::float32;
  int bits = 0;  // of the cache
  std::int64_t tokens = 0;
  double operations_per_second = 0;        // 4 a pair of query and key and element of a head; causal pairs alone count
  double written_elements_per_second = 0;  // of keys and values
  static constexpr auto fields() {
    return std::tuple(field("dtype", &PromptRate::dtype), field("bits", &PromptRate::bits),
                      field("tokens", &PromptRate::tokens),
                      field("operations_per_second", &PromptRate::operations_per_second),
                      field("written_elements_per_second", &PromptRate::written_elements_per_second));
  }
  bool operator==(const PromptRate&) const = default;
};

/// A layer norm of [tokens, size].
struct NormRate {
  DType dtype = DType::float32;
  std::int64_t tokens = 0;
  std::int64_t size = 0;
  double elements_per_second = 0;
  static constexpr auto fields() {
    return std::tuple(field("dtype", &NormRate::dtype), field("tokens", &NormRate::tokens),
                      field("size", &NormRate::size), field("elements_per_second", &NormRate::elements_per_second));
  }
  bool operator==(const NormRate&) const = default;
};

struct OpRates {
  std::vector<ProductRate> products;
  std::vector<CacheReadRate> cache_reads;
  std::vector<PromptRate> prompts;
  std::vector<NormRate> norms;
  static constexpr auto fields() {
    return std::tuple(field("products", &OpRates::products), field("cache_reads", &OpRates::cache_reads),
                      field("prompts", &OpRates::prompts), field("norms", &OpRates::norms));
  }
  bool operator==(const OpRates&) const = default;
};

}  // namespace flexgen

// Element types of weights, cache and activations. float64 is one of checkpoints alone: what is read from them is
// converted, nothing is computed in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexgen {

enum class DType : std::uint8_t { float32, float16, bfloat16, float64 };

constexpr std::uint64_t element_bytes(DType dtype) {
  if (dtype == DType::float64) return 8;
  return dtype == DType::float32 ? 4 : 2;
}

/// "float32" | "float16" | "bfloat16" | "float64"
std::string_view dtype_name(DType dtype);
/// The types that we run: accepts their names, "fp32/fp16/bf16", and "torch." before them; throws UserError (usage).
DType parse_dtype(std::string_view text);

/// In JSON a type stands as its name: found by the JSON library and by base/json_fields.hpp, of which this header knows
/// nothing.
template <class J>
void to_json(J& to, DType dtype) {
  to = dtype_name(dtype);
}
template <class J>
void from_json(const J& from, DType& dtype) {
  dtype = parse_dtype(from.template get<std::string>());
}

}  // namespace flexgen

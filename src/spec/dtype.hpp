// Element types of weights, cache and activations.
#pragma once

#include <cstdint>
#include <string_view>

namespace flexgen {

enum class DType : std::uint8_t { float32, float16, bfloat16 };

constexpr std::uint64_t element_bytes(DType dtype) { return dtype == DType::float32 ? 4 : 2; }

/// "float32" | "float16" | "bfloat16"
std::string_view dtype_name(DType dtype);
/// Accepts the names above, "fp32/fp16/bf16", and "torch." before them; throws UserError (usage).
DType parse_dtype(std::string_view text);

}  // namespace flexgen

#include "spec/dtype.hpp"

#include <string>

#include "base/error.hpp"

namespace flexgen {

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float16: return "float16";
    case DType::bfloat16: return "bfloat16";
    case DType::float64: return "float64";
  }
  return "?";
}

DType parse_dtype(std::string_view text) {
  if (text.starts_with("torch.")) text.remove_prefix(6);
  if (text == "float32" || text == "fp32" || text == "float") return DType::float32;
  if (text == "float16" || text == "fp16" || text == "half") return DType::float16;
  if (text == "bfloat16" || text == "bf16") return DType::bfloat16;
  throw UserError(ExitCode::usage, "'" + std::string(text) + "' is not a data type that we run", "unknown name",
                  "Use float32, float16 or bfloat16");
}

}  // namespace flexgen

#include "run/rows/number_fault.hpp"

#include "base/error.hpp"

namespace flexgen {

NumberFault number_fault(DType dtype) {
  switch (dtype) {
    case DType::float16:
      return {"a logit is not a finite number, as where values overflow float16",
              "Try --dtype bfloat16 or float32; if it stays, the weights are damaged or not of this model"};
    case DType::bfloat16:
      return {
          "a logit is not a finite number, and bfloat16 does not overflow: the weights are damaged or not of this "
          "model",
          "Compare the model's files with their source"};
    case DType::float32:
    case DType::float64: break;  // no run computes in float64
  }
  return {"a logit is not a finite number, in float32: the weights are damaged or not of this model",
          "Compare the model's files with their source"};
}

RowError number_error(const RowIdentity& row, std::string_view problem, DType dtype) {
  const NumberFault fault = number_fault(dtype);
  return {row, "not_a_number", UserError(ExitCode::rows_failed, problem, fault.reason, fault.suggestion).what()};
}

}  // namespace flexgen

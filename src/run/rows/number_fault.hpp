// What is said of a row for which the model gave no numbers.
//
// Pure functions. The advice depends on the data type of the run: only float16 overflows where weights are sound.
#pragma once

#include <string_view>

#include "job/request.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

struct NumberFault {
  std::string_view reason;
  std::string_view suggestion;
};

NumberFault number_fault(DType dtype);

/// @param problem  what has no number: "the model gave no number for token 3 of the answer"
RowError number_error(const RowIdentity& row, std::string_view problem, DType dtype);

}  // namespace flexgen

// Measures the engine's matrix product: at its best, and at the sizes of calls of few tokens and many, with weights
// that are plain or in codes.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "device/device.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

/// The best of several repetitions per shape; weights take turns, so that no cache holds them from call to call. On a
/// GPU large products are measured at the clock that it keeps under them.
std::vector<MatrixRate> measure_matrix(const Device& device, bool quick,
                                       const std::function<void(std::string_view)>& progress);

/// The same over numbers of tokens, of two sizes of matrices.
std::vector<ProductRate> measure_products(const Device& device, bool quick,
                                          const std::function<void(std::string_view)>& progress);

}  // namespace flexgen

// Measures the engine's matrix product at the shapes of prefill (many rows) and decode (few).
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

}  // namespace flexgen

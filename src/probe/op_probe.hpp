// Measures the engine's ops besides the matrix product, of attention and norms, at sizes that jobs use.
#pragma once

#include <functional>
#include <string_view>

#include "device/device.hpp"
#include "spec/op_rates.hpp"

namespace flexgen {

/// All of OpRates, the products too. Caches take turns, so that no processor's cache holds them from call to call.
OpRates measure_ops(const Device& device, bool quick, const std::function<void(std::string_view)>& progress);

}  // namespace flexgen

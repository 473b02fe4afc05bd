// Measures all that one machine can do by itself: memory, arithmetic, the links of its GPU, its disk.
//
// Free functions that block. Nothing else should run on the machine meanwhile.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "device/device.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

/// The machine's part of a profile: `memory`, `gpu` (of a CUDA device) and `disk`. Loops run on as many threads as the
/// ops have. `progress` is told what comes next. Throws UserError as GpuProbe and measure_disk.
/// @param directory  whose disk is measured
/// @param quick      fewer points and less data
HardwareProfile measure_machine(const Device& device, const std::filesystem::path& directory, bool quick,
                                const std::function<void(std::string_view)>& progress);

}  // namespace flexgen

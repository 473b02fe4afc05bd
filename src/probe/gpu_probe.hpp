// Measures the links and the memory of one GPU: copies between host and GPU, copies within it, and copies while the
// processors read host memory.
//
// Timed by the device's own events; every figure is the best of several repetitions after a warm-up.
// Thread-safety: none; nothing else should use the GPU or the host's memory meanwhile.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "device/device.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

class GpuProbe {
 public:
  /// Takes some host and GPU memory until its end. Throws UserError: does_not_fit; usage in a build without CUDA.
  /// @param quick  a quarter of the data and fewer repetitions
  GpuProbe(const Device& device, bool quick);
  ~GpuProbe();
  GpuProbe(const GpuProbe&) = delete;
  GpuProbe& operator=(const GpuProbe&) = delete;

  /// All that this probe measures, `matrix` left empty. `progress` is told what comes next.
  GpuProfile measure(const std::function<void(std::string_view)>& progress);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexgen

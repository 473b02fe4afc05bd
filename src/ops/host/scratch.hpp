// Memory of a thread that host kernels reuse from call to call: it grows to the largest need, then stays.
#pragma once

#include <cstdint>
#include <memory>

namespace flexgen {

class Scratch {
 public:
  /// At least `count` floats, 64-byte aligned, undefined contents; valid until the next call on this object.
  float* floats(std::int64_t count) {
    if (count > count_) {
      memory_ = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(count) + 15);
      count_ = count;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
    return memory_.get() + ((64 - address % 64) % 64) / sizeof(float);
  }

 private:
  std::unique_ptr<float[]> memory_;
  std::int64_t count_ = 0;
};

}  // namespace flexgen

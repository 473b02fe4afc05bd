// Where an executor and its lanes work. Plain data; what it refers to outlives them.
#pragma once

#include <exception>
#include <functional>

#include "base/trace.hpp"
#include "device/device.hpp"
#include "engine/wait_times.hpp"
#include "ops/context.hpp"

namespace flexgen {

struct Surroundings {
  Device device;
  Backend backend = Backend::native;
  Tracer& tracer;
  /// Told of the first error of each stream, from the stream's thread. May be empty.
  std::function<void(std::exception_ptr)> on_stream_error;
  WaitTimes* waits = nullptr;  // null: nobody asks
};

}  // namespace flexgen

// Operands full of numbers, and the time of calls on them: what the probes of the engine's ops have in common.
//
// Single-threaded; an owner's buffers must live through its calls.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/trace.hpp"
#include "device/buffer.hpp"
#include "device/stream.hpp"
#include "ops/context.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

/// A stream in which an op is called again and again.
class TimedCalls {
 public:
  /// @param workspace_bytes  of the op's context
  TimedCalls(const Device& device, std::uint64_t workspace_bytes);

  Stream& stream() { return stream_; }
  const OpContext& context() const { return context_; }

  /// Device memory full of numbers of `dtype`.
  Buffer make_operand(std::uint64_t bytes, DType dtype);
  /// Device memory with what `values` holds.
  template <class T>
  Buffer make_array(const std::vector<T>& values) {
    return make_copy(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T));
  }

  /// Seconds of one call: the least of the means over some repetitions of `seconds_per_run` each. `call()` enqueues it.
  /// @param seconds_to_heat  spent before: a GPU lowers its clock when large products have heated it
  template <class Call>
  double best_seconds(double seconds_per_run, double seconds_to_heat, const Call& call) {
    run(1, call);  // kernels are chosen and loaded
    const double one = std::max(run(1, call), 1e-7);
    const auto calls_in = [&](double seconds) {
      return static_cast<int>(std::clamp(std::ceil(seconds / one), 1.0, 20000.0));
    };
    if (seconds_to_heat > 0) run(calls_in(seconds_to_heat), call);
    const int num_calls = calls_in(seconds_per_run);
    double best = run(num_calls, call);
    for (int i = 1; i < repetitions; ++i) best = std::min(best, run(num_calls, call));
    return best / num_calls;
  }

 private:
  static constexpr int repetitions = 4;

  Buffer make_copy(const std::byte* data, std::uint64_t bytes);
  std::uint64_t busy_ns() const { return tracer_.totals()[static_cast<std::size_t>(Resource::compute)].busy_ns; }

  // By the device's clock.
  template <class Call>
  double run(int num_calls, const Call& call) {
    const std::uint64_t before_ns = busy_ns();
    {
      const StreamSpan span(stream_, Resource::compute, "calls");
      for (int i = 0; i < num_calls; ++i) {
        const Workspace::Scope scope(workspace_);
        call();
      }
    }
    stream_.synchronize();
    return static_cast<double>(busy_ns() - before_ns) / 1e9;
  }

  Device device_;
  Tracer tracer_;
  Stream stream_;
  Buffer scratch_;
  Workspace workspace_;
  OpContext context_;
};

}  // namespace flexgen

// Device-side timing of spans on one CUDA stream, for the tracer. Builds with CUDA only.
//
// Not thread-safe: used by the thread that feeds the stream. Nothing here waits for the GPU except drain(true).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/trace.hpp"

namespace flexgen {

class CudaSpans {
 public:
  CudaSpans(cudaStream_t stream, Tracer* tracer);
  ~CudaSpans();
  CudaSpans(const CudaSpans&) = delete;
  CudaSpans& operator=(const CudaSpans&) = delete;

  std::uint64_t open();
  void close(std::uint64_t span, Resource resource, std::string_view name, std::uint64_t bytes);
  /// Hands finished spans to the tracer; with `all`, waits for the rest.
  void drain(bool all) noexcept;

 private:
  struct Span {
    cudaEvent_t begin = nullptr;
    cudaEvent_t end = nullptr;
    Resource resource{};
    std::string name;
    std::uint64_t bytes = 0;
  };
  cudaEvent_t take_event();

  cudaStream_t stream_;
  Tracer* tracer_;
  cudaEvent_t epoch_ = nullptr;  // complete at epoch_ns_ on the host clock
  std::uint64_t epoch_ns_ = 0;
  std::uint64_t first_ = 0;  // number of the oldest span in pending_
  std::deque<Span> pending_;
  std::vector<cudaEvent_t> free_events_;
};

}  // namespace flexgen

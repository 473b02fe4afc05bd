// The CUDA stream and event that a link of the NCCL transport owns. Private to the room; builds with NCCL only.
//
// Move-only owners; not thread-safe.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace flexgen::nccl {

inline void check_cuda(cudaError_t code, std::string_view call, std::string_view who) {
  if (code == cudaSuccess) return;
  throw SystemError(ExitCode::communication, std::string(call) + " by " + std::string(who), cudaGetErrorString(code));
}

class Stream {
 public:
  explicit Stream(std::string_view who) {
    int least = 0, greatest = 0;  // transfers go before computation: the next stage waits for them
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange", who);
    check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "cudaStreamCreate", who);
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(std::string_view who) {
    check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate", who);
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace flexgen::nccl

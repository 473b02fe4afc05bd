#include "device/cuda_spans.hpp"

#include "device/cuda_check.hpp"

namespace flexgen {
namespace {
constexpr std::size_t drain_above = 256;
}

CudaSpans::CudaSpans(cudaStream_t stream, Tracer* tracer) : stream_(stream), tracer_(tracer) {
  epoch_ = take_event();
  FLEXGEN_CUDA_CALL(cudaEventRecord(epoch_, stream_));
  FLEXGEN_CUDA_CALL(cudaEventSynchronize(epoch_));
  epoch_ns_ = now_ns();
}

CudaSpans::~CudaSpans() {
  drain(true);
  for (Span& span : pending_) {
    if (span.begin) cudaEventDestroy(span.begin);
    if (span.end) cudaEventDestroy(span.end);
  }
  for (cudaEvent_t event : free_events_) cudaEventDestroy(event);
  if (epoch_) cudaEventDestroy(epoch_);
}

cudaEvent_t CudaSpans::take_event() {
  cudaEvent_t event = nullptr;
  if (!free_events_.empty()) {
    event = free_events_.back();
    free_events_.pop_back();
  } else {
    FLEXGEN_CUDA_CALL(cudaEventCreateWithFlags(&event, cudaEventDefault));
  }
  return event;
}

std::uint64_t CudaSpans::open() {
  Span& span = pending_.emplace_back();
  span.begin = take_event();
  FLEXGEN_CUDA_CALL(cudaEventRecord(span.begin, stream_));
  return first_ + pending_.size() - 1;
}

void CudaSpans::close(std::uint64_t number, Resource resource, std::string_view name, std::uint64_t bytes) {
  Span& span = pending_.at(number - first_);
  span.end = take_event();
  span.resource = resource;
  span.name = name;
  span.bytes = bytes;
  FLEXGEN_CUDA_CALL(cudaEventRecord(span.end, stream_));
  if (pending_.size() > drain_above) drain(false);
}

void CudaSpans::drain(bool all) noexcept {
  while (!pending_.empty() && pending_.front().end) {
    Span& span = pending_.front();
    if (all) cudaEventSynchronize(span.end);
    else if (cudaEventQuery(span.end) != cudaSuccess) break;
    float begin_ms = 0;
    float length_ms = 0;
    if (cudaEventElapsedTime(&begin_ms, epoch_, span.begin) == cudaSuccess &&
        cudaEventElapsedTime(&length_ms, span.begin, span.end) == cudaSuccess) {
      const std::uint64_t begin_ns = epoch_ns_ + static_cast<std::uint64_t>(static_cast<double>(begin_ms) * 1e6);
      tracer_->record(span.resource, span.name, begin_ns,
                      begin_ns + static_cast<std::uint64_t>(static_cast<double>(length_ms) * 1e6), span.bytes);
    }
    free_events_.push_back(span.begin);
    free_events_.push_back(span.end);
    pending_.pop_front();
    ++first_;
  }
}

}  // namespace flexgen

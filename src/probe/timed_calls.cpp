#include "probe/timed_calls.hpp"

#include <cstring>
#include <span>

#include "base/bytes.hpp"

namespace flexgen {
namespace {

// Magnitudes between 1/4 and 1, either sign: no zeros, no infinities, and no constant, which would cost less power.
void fill_with_numbers(std::span<std::byte> memory, DType dtype) {
  std::uint64_t state = 1;
  const auto next = [&] {
    return static_cast<std::uint32_t>((state = state * 6364136223846793005ULL + 1442695040888963407ULL) >> 32);
  };
  for (std::uint64_t at = 0; at + sizeof(std::uint32_t) <= memory.size(); at += sizeof(std::uint32_t)) {
    const std::uint32_t random = next();
    std::uint32_t word = 0;
    switch (dtype) {
      case DType::float32: word = 0x3e800000U + (random & 0x80ffffffU); break;
      case DType::float16: word = 0x34003400U + (random & 0x87ff87ffU); break;
      case DType::bfloat16: word = 0x3e803e80U + (random & 0x80ff80ffU); break;
      case DType::float64: break;
    }
    std::memcpy(memory.data() + at, &word, sizeof word);
  }
}

}  // namespace

TimedCalls::TimedCalls(const Device& device, std::uint64_t workspace_bytes)
    : device_(device),
      stream_("probe", Stream::Mode::inline_tasks, device, &tracer_),
      scratch_(MemoryKind::device, workspace_bytes, device),
      workspace_(scratch_.data(), scratch_.size_bytes()) {
  context_.device = device;
  context_.stream = stream_.native();
  context_.workspace = &workspace_;
}

Buffer TimedCalls::make_operand(std::uint64_t bytes, DType dtype) {
  const Buffer host(MemoryKind::pageable, std::min(bytes, 16 * MiB), device_);
  fill_with_numbers({host.data(), host.size_bytes()}, dtype);
  Buffer operand(MemoryKind::device, bytes, device_);
  for (std::uint64_t done = 0; done < bytes; done += host.size_bytes())
    stream_.copy(operand.data() + done, host.data(), std::min(host.size_bytes(), bytes - done), Resource::host_to_gpu,
                 "operand");
  stream_.synchronize();
  return operand;
}

Buffer TimedCalls::make_copy(const std::byte* data, std::uint64_t bytes) {
  Buffer array(MemoryKind::device, bytes, device_);
  stream_.copy(array.data(), data, bytes, Resource::host_to_gpu, "array");
  stream_.synchronize();
  return array;
}

}  // namespace flexgen

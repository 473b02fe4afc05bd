#include "device/buffer.hpp"

#include <fmt/core.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "base/processors.hpp"
#include "base/trace.hpp"
#include "device/call_counts.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "device/cuda_check.hpp"
#endif

namespace flexgen {
namespace {

constexpr std::uint64_t page_bytes = 4096;
constexpr std::uint64_t fault_range_bytes = 64 * MiB;  // worth a thread

// Memory that all processors read goes to the machine's nodes in turn; of a process that is kept on some processors, to
// the node of whoever writes first, as ever. Refusals leave it at that.
void spread_over_nodes(void* memory, std::uint64_t bytes) {
  constexpr std::uint64_t worth_it = 64 * MiB;
  constexpr unsigned long max_nodes = 8 * sizeof(unsigned long);
  if (bytes < worth_it) return;
  cpu_set_t own;
  CPU_ZERO(&own);
  if (sched_getaffinity(0, sizeof own, &own) != 0 || CPU_COUNT(&own) < sysconf(_SC_NPROCESSORS_ONLN)) return;
  unsigned long nodes = 0;
  if (syscall(SYS_get_mempolicy, nullptr, &nodes, max_nodes + 1, nullptr, MPOL_F_MEMS_ALLOWED) != 0) return;
  if (std::popcount(nodes) > 1) syscall(SYS_mbind, memory, bytes, MPOL_INTERLEAVE, &nodes, max_nodes + 1, 0);
}

std::byte* map_host_memory(std::uint64_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw UserError(ExitCode::does_not_fit, fmt::format("cannot take {} of host memory", format_bytes(bytes)),
                    errno_text(errno), "Lower --cpu-mem or the dram percentages of --percent");
  madvise(memory, bytes, MADV_HUGEPAGE);  // advice only: plain pages do as well
  spread_over_nodes(memory, bytes);
  return static_cast<std::byte*>(memory);
}

#ifdef FLEXGEN_HAS_CUDA

bool pin(std::byte* data, std::uint64_t bytes) {
  const std::uint64_t begin_ns = now_ns();
  fault_in(data, bytes);
  ++call_counts().allocations;
  const cudaError_t status = cudaHostRegister(data, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  call_counts().pinning_ns += now_ns() - begin_ns;
  if (status == cudaSuccess) return true;
  cudaGetLastError();
  static std::atomic_flag warned;
  if (!warned.test_and_set())
    log::warn(
        fmt::format("host memory stays pageable, copies to the GPU will be slower: cudaHostRegister of {} said {}. "
                    "Raise `ulimit -l` or lower --cpu-mem",
                    format_bytes(bytes), cudaGetErrorName(status)));
  return false;
}

// Null where the GPU has none for it.
std::byte* address_on_gpu(std::byte* pinned) {
  void* address = nullptr;
  if (cudaHostGetDevicePointer(&address, pinned, 0) == cudaSuccess) return static_cast<std::byte*>(address);
  cudaGetLastError();
  return nullptr;
}

std::byte* allocate_on_gpu(std::uint64_t bytes, const Device& device) {
  use_device(device);
  ++call_counts().allocations;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const DeviceMemory now = device_memory(device);
    throw UserError(ExitCode::does_not_fit, fmt::format("cannot take {} of GPU memory", format_bytes(bytes)),
                    fmt::format("{} of {} are free", format_bytes(now.free_bytes), format_bytes(now.total_bytes)),
                    "Lower --gpu-mem or free the GPU");
  }
  check_cuda(status, "cudaMalloc");
  return static_cast<std::byte*>(memory);
}

#endif

}  // namespace

// It parallelises: each thread touches its own range.
void fault_in(std::byte* data, std::uint64_t bytes) {
  if (bytes == 0) return;
  const auto most = static_cast<std::uint64_t>(std::min(num_available_processors(), 8));
  const auto num_threads = static_cast<unsigned>(std::clamp<std::uint64_t>(bytes / fault_range_bytes, 1, most));
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < num_threads; ++t)
    threads.emplace_back([=] {
      const std::uint64_t share = align_up(bytes / num_threads + 1, 2 * MiB);
      const std::uint64_t begin = std::min(bytes, share * t);
      const std::uint64_t end = std::min(bytes, begin + share);
      for (std::uint64_t at = begin; at < end; at += page_bytes)
        *reinterpret_cast<volatile std::byte*>(data + at) = std::byte{0};
    });
}

bool reads_pinned_memory(const Device& device) {
  if (!device.is_cuda() || num_cuda_devices() == 0) return true;
  static const bool reads = Buffer(MemoryKind::pinned, page_bytes, device).seen_by_device() != nullptr;
  return reads;
}

Buffer::Buffer(MemoryKind kind, std::uint64_t size_bytes, const Device& device)
    : size_bytes_(size_bytes), kind_(kind), device_(device) {
  if (size_bytes == 0) return;
#ifdef FLEXGEN_HAS_CUDA
  if (device.is_cuda() && kind == MemoryKind::device) {
    seen_ = data_ = allocate_on_gpu(size_bytes, device);
    on_gpu_ = true;
    return;
  }
#endif
  data_ = map_host_memory(align_up(size_bytes, page_bytes));
  if (!device.is_cuda()) seen_ = data_;
#ifdef FLEXGEN_HAS_CUDA
  if (device.is_cuda() && kind == MemoryKind::pinned) {
    use_device(device);
    registered_ = pin(data_, align_up(size_bytes, page_bytes));
    if (registered_) seen_ = address_on_gpu(data_);
  }
#endif
}

Buffer::~Buffer() { release(); }

Buffer::Buffer(Buffer&& other) noexcept { *this = std::move(other); }

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    seen_ = std::exchange(other.seen_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
    kind_ = other.kind_;
    device_ = other.device_;
    on_gpu_ = std::exchange(other.on_gpu_, false);
    registered_ = std::exchange(other.registered_, false);
  }
  return *this;
}

void Buffer::release() noexcept {
  if (!data_) return;
#ifdef FLEXGEN_HAS_CUDA
  if (on_gpu_) {
    cudaFree(data_);
    data_ = nullptr;
    return;
  }
  if (registered_) cudaHostUnregister(data_);
#endif
  munmap(data_, align_up(size_bytes_, page_bytes));
  data_ = nullptr;
}

}  // namespace flexgen

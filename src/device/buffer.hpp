// Owning memory of the three kinds the engine uses. Move-only; freed on destruction; exact sizes, nothing cached.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/device.hpp"

namespace flexgen {

enum class MemoryKind : std::uint8_t {
  pageable,  // host, page-aligned, huge pages advised
  pinned,    // host, registered with CUDA so that copies are asynchronous and fast; pageable in a host-only run
  device,    // GPU memory
};

class Buffer {
 public:
  Buffer() = default;
  /// Allocates `size_bytes` (0 gives an empty buffer). Host memory is 4096-byte aligned and not touched.
  /// `device` is the GPU that owns or will read the memory; with a host device `pinned` and `device` memory are
  /// plain host memory. When pinning is refused (memlock limit, driver) the buffer stays pageable and one warning is
  /// logged. Throws UserError (does_not_fit) when memory runs out.
  Buffer(MemoryKind kind, std::uint64_t size_bytes, const Device& device);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return data_; }
  /// Where the device's own loads find it: pinned memory of the host has an address there. Null of host memory that a
  /// GPU cannot read.
  std::byte* seen_by_device() const { return seen_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  MemoryKind kind() const { return kind_; }

 private:
  void release() noexcept;

  std::byte* data_ = nullptr;
  std::byte* seen_ = nullptr;
  std::uint64_t size_bytes_ = 0;
  MemoryKind kind_ = MemoryKind::pageable;
  Device device_;
  bool on_gpu_ = false;
  bool registered_ = false;
};

/// True when `device` can read pinned host memory itself: always on the host; on a GPU tried once, as drivers may
/// refuse to pin. Taken for granted of a GPU of another machine, where this one has none.
bool reads_pinned_memory(const Device& device);

/// Has the system give pages to this host memory now, by several threads, what is in them being lost: whoever first
/// writes to it, a read from disk for example, is then not held up. Most of what pinning costs, too.
void fault_in(std::byte* data, std::uint64_t bytes);

}  // namespace flexgen

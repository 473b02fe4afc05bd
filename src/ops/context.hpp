// Where an op runs, and the scratch memory it may use. One per rank; used by the thread that computes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "device/device.hpp"

namespace flexgen {

/// Bump allocator over one region of the computing device's memory. Sized once, before the first sweep, so that the
/// steady state allocates nothing. Not thread-safe.
class Workspace {
 public:
  Workspace() = default;
  Workspace(std::byte* data, std::uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}

  /// 256-byte aligned memory, valid until the enclosing Scope ends. Throws InternalError when the plan was too small.
  std::byte* take(std::uint64_t bytes, std::string_view purpose);

  std::uint64_t used_bytes() const { return used_bytes_; }
  std::uint64_t peak_bytes() const { return peak_bytes_; }
  std::uint64_t size_bytes() const { return size_bytes_; }

  /// Gives back on destruction all that was taken since construction.
  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), mark_(workspace.used_bytes_) {}
    ~Scope() { workspace_.used_bytes_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    std::uint64_t mark_;
  };

 private:
  std::byte* data_ = nullptr;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t peak_bytes_ = 0;
};

/// Which implementation an op dispatches to. `reference` is plain C++ on host memory: the oracle of the tests, and
/// what builds without LibTorch use.
enum class Backend : std::uint8_t { native, reference };

struct OpContext {
  Device device;
  void* stream = nullptr;  // cudaStream_t of the compute stream; null on the host
  Workspace* workspace = nullptr;
  Backend backend = Backend::native;
};

}  // namespace flexgen

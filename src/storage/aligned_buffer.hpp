// Page-aligned host memory for direct I/O, and the small pool of such pieces that unaligned transfers go through.
//
// Ownership: move-only. Thread-safety: none; one owner at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace flexgen {

/// Direct I/O wants file offset, length and memory address in multiples of this. 4096 suits every disk in use
/// (sector sizes 512 and 4096).
inline constexpr std::uint64_t direct_alignment = 4096;

/// Zero-filled memory whose address is a multiple of `direct_alignment`. Of a large buffer the system gives pages only
/// as they are used, and huge ones where it has them: a transfer then has few pieces.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// Throws UserError (does_not_fit) when the system has no memory left.
  explicit AlignedBuffer(std::uint64_t size_bytes);

  std::byte* data() const { return data_.get(); }
  std::uint64_t size_bytes() const { return size_bytes_; }

 private:
  struct Free {
    Free() : mapped_bytes(0) {}
    explicit Free(std::uint64_t mapped) : mapped_bytes(mapped) {}
    std::uint64_t mapped_bytes;  // 0: allocated
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::uint64_t size_bytes_ = 0;
};

/// Equal slots of aligned memory, handed out and taken back; the memory itself is taken at the first use.
class BounceArea {
 public:
  static constexpr std::uint64_t slot_bytes = 256 * 1024;
  static constexpr std::uint32_t num_slots = 64;                   // 16 MiB in flight, as deep as the default queue
  static constexpr std::uint64_t no_slot_tag = ~std::uint64_t{0};  // of a transfer that needs none

  /// Marks all slots free: no transfer may be in flight.
  void reset();
  std::optional<std::uint32_t> take();
  void give_back(std::uint32_t slot) { free_slots_.push_back(slot); }
  std::byte* data(std::uint32_t slot) const { return memory_.data() + slot * slot_bytes; }

 private:
  AlignedBuffer memory_;
  std::vector<std::uint32_t> free_slots_;
};

}  // namespace flexgen

// KV-cache rows on ssd: regions that grow by small pieces and are read from the start.
//
// Disks take whole 4 KiB blocks, pieces have any size: the last incomplete block stays in memory (the tail) and
// goes to disk when it is full. A batch of regions is appended or read with one deep queue.
//
// Ownership: a region owns its part of the scratch file and 4 KiB of memory. Thread-safety: one thread at a time
// per region, and per queue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/aligned_buffer.hpp"
#include "storage/io_queue.hpp"
#include "storage/scratch_store.hpp"

namespace flexgen {

class AppendRegion {
 public:
  AppendRegion() = default;
  /// Empty, with room for the whole of `region`.
  explicit AppendRegion(ScratchRegion region);

  struct Append {
    AppendRegion* region = nullptr;
    std::span<const std::byte> data;
  };
  struct Read {
    const AppendRegion* region = nullptr;
    std::uint64_t size_bytes = 0;
    std::byte* destination = nullptr;
  };

  /// Appends one piece. More than the capacity is a bug (InternalError). After an I/O error (UserError) the region
  /// is as it was before.
  void append(IoQueue& queue, std::span<const std::byte> data);
  /// Reads the first `size_bytes` (at most size_bytes() of the region).
  void read_prefix(IoQueue& queue, std::uint64_t size_bytes, std::byte* destination) const;

  /// All of them at once; a region stands at most once in a batch. An error leaves every region as it was.
  static void append_many(IoQueue& queue, std::span<const Append> appends);
  static void read_many(IoQueue& queue, std::span<const Read> reads);

  /// Forgets the content; the room is kept.
  void clear() { size_bytes_ = 0; }

  std::uint64_t size_bytes() const { return size_bytes_; }
  std::uint64_t capacity_bytes() const { return region_.capacity_bytes(); }

 private:
  std::uint64_t tail_bytes() const { return size_bytes_ % direct_alignment; }
  std::uint64_t flushed_bytes() const { return size_bytes_ - tail_bytes(); }
  void commit(std::span<const std::byte> data);

  ScratchRegion region_;
  AlignedBuffer tail_;
  std::uint64_t size_bytes_ = 0;
  bool in_batch_ = false;  // marks repetitions in a batch
};

}  // namespace flexgen

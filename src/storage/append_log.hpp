// KV-cache rows on ssd: regions that grow by small pieces and are read from the start.
//
// Disks take whole 4 KiB blocks, pieces have any size: the last incomplete block stays in memory (the tail) and
// goes to disk when it is full. A batch of regions is appended or read with one deep queue.
//
// Ownership: a region has a share in a part of the scratch file, of which several may use a run each, and owns 4 KiB of
// memory. Thread-safety: one thread at a time per region, and per queue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "storage/aligned_buffer.hpp"
#include "storage/io_queue.hpp"
#include "storage/scratch_store.hpp"

namespace flexgen {

class AppendRegion {
 public:
  AppendRegion() = default;
  /// Empty, with room for the whole of `part`.
  explicit AppendRegion(std::shared_ptr<const ScratchRegion> part);

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

  /// Forgets the content, and begins anew at this offset of its part of the file, a multiple of direct_alignment.
  void restart(std::uint64_t offset_bytes);

  std::uint64_t size_bytes() const { return size_bytes_; }
  /// From where it began to the end of its part of the file.
  std::uint64_t capacity_bytes() const { return part_ ? part_->capacity_bytes() - begin_bytes_ : 0; }

 private:
  std::uint64_t tail_bytes() const { return size_bytes_ % direct_alignment; }
  std::uint64_t flushed_bytes() const { return size_bytes_ - tail_bytes(); }
  void commit(std::span<const std::byte> data);

  std::shared_ptr<const ScratchRegion> part_;
  std::uint64_t begin_bytes_ = 0;  // in the part
  AlignedBuffer tail_;
  std::uint64_t size_bytes_ = 0;
  bool in_batch_ = false;  // marks repetitions in a batch
};

}  // namespace flexgen

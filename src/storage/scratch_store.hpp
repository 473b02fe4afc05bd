// Sub-allocation of block-aligned regions in one scratch file.
//
// Ownership: the store owns the file; a region is a move-only share of it, given back at the end of its life, and
// must not outlive its store. Thread-safety: allocation is thread-safe; a region belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <span>
#include <string_view>

#include "storage/direct_reader.hpp"
#include "storage/scratch_file.hpp"

namespace flexgen {

class ScratchStore;

/// `capacity_bytes()` bytes of the file from `offset_bytes()` on, both multiples of direct_alignment.
class ScratchRegion {
 public:
  ScratchRegion() = default;
  ~ScratchRegion();
  ScratchRegion(ScratchRegion&& other) noexcept;
  ScratchRegion& operator=(ScratchRegion&& other) noexcept;
  ScratchRegion(const ScratchRegion&) = delete;
  ScratchRegion& operator=(const ScratchRegion&) = delete;

  const FileHandle& file() const;
  std::uint64_t offset_bytes() const { return offset_bytes_; }
  std::uint64_t capacity_bytes() const { return capacity_bytes_; }

  /// `size_bytes` from `begin_bytes` of the region on, for an ExtentReader.
  FileExtent extent(std::uint64_t begin_bytes, std::uint64_t size_bytes) const;
  /// Writes `data` from the region's start on; the rest of its last block becomes zero. Errors as write_extents.
  void write(IoQueue& queue, std::span<const std::byte> data) const;

 private:
  friend class ScratchStore;
  ScratchRegion(ScratchStore* store, std::uint64_t offset_bytes, std::uint64_t capacity_bytes)
      : store_(store), offset_bytes_(offset_bytes), capacity_bytes_(capacity_bytes) {}

  ScratchStore* store_ = nullptr;
  std::uint64_t offset_bytes_ = 0;
  std::uint64_t capacity_bytes_ = 0;
};

class ScratchStore {
 public:
  /// Takes `capacity_bytes` of disk at once. Errors as ScratchFile.
  ScratchStore(const std::filesystem::path& offload_dir, std::uint64_t capacity_bytes, ScratchOptions options = {});
  ScratchStore(const ScratchStore&) = delete;
  ScratchStore& operator=(const ScratchStore&) = delete;

  /// A region of at least `size_bytes` (rounded up to whole blocks). Throws UserError (does_not_fit) with the
  /// numbers when no gap is large enough; `what` names the taker ("KV cache of layer 3").
  ScratchRegion allocate(std::uint64_t size_bytes, std::string_view what);

  const FileHandle& file() const { return file_.handle(); }
  std::uint64_t capacity_bytes() const { return file_.size_bytes(); }
  std::uint64_t used_bytes() const;

 private:
  friend class ScratchRegion;
  void give_back(std::uint64_t offset_bytes, std::uint64_t size_bytes);

  ScratchFile file_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> gaps_;  // offset -> size; neighbours are always joined
  std::uint64_t used_bytes_ = 0;
};

}  // namespace flexgen

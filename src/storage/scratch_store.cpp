#include "storage/scratch_store.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/direct_writer.hpp"

namespace flexgen {

ScratchRegion::~ScratchRegion() {
  if (store_ && capacity_bytes_ > 0) store_->give_back(offset_bytes_, capacity_bytes_);
}

ScratchRegion::ScratchRegion(ScratchRegion&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      offset_bytes_(std::exchange(other.offset_bytes_, 0)),
      capacity_bytes_(std::exchange(other.capacity_bytes_, 0)) {}

ScratchRegion& ScratchRegion::operator=(ScratchRegion&& other) noexcept {
  std::swap(store_, other.store_);
  std::swap(offset_bytes_, other.offset_bytes_);
  std::swap(capacity_bytes_, other.capacity_bytes_);
  return *this;
}

const FileHandle& ScratchRegion::file() const {
  FLEXGEN_CHECK(store_, "an empty region has no file");
  return store_->file();
}

FileExtent ScratchRegion::extent(std::uint64_t begin_bytes, std::uint64_t size_bytes) const {
  FLEXGEN_CHECK(begin_bytes <= capacity_bytes_ && size_bytes <= capacity_bytes_ - begin_bytes,
                "an extent must lie inside its region");
  return {&file(), offset_bytes_ + begin_bytes, size_bytes};
}

void ScratchRegion::write(IoQueue& queue, std::span<const std::byte> data) const {
  FLEXGEN_CHECK(data.size() <= capacity_bytes_, "data are larger than their region");
  const ExtentWrite write{&file(), offset_bytes_, align_up(data.size(), direct_alignment), {}, data};
  write_extents(queue, {&write, 1});
}

ScratchStore::ScratchStore(const std::filesystem::path& offload_dir, std::uint64_t capacity_bytes,
                           ScratchOptions options)
    : file_(offload_dir, capacity_bytes, options) {
  if (file_.size_bytes() > 0) gaps_[0] = file_.size_bytes();
}

// First fit: regions are few, long-lived and of few sizes.
ScratchRegion ScratchStore::allocate(std::uint64_t size_bytes, std::string_view what) {
  const std::uint64_t size = align_up(size_bytes, direct_alignment);
  std::lock_guard lock(mutex_);
  if (size == 0) return ScratchRegion(this, 0, 0);
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    const auto [offset, gap_bytes] = *gap;
    if (gap_bytes < size) continue;
    if (gap_bytes > size) gaps_[offset + size] = gap_bytes - size;
    gaps_.erase(offset);
    used_bytes_ += size;
    return ScratchRegion(this, offset, size);
  }
  throw UserError(ExitCode::does_not_fit, fmt::format("{} do not fit the scratch file", what),
                  fmt::format("{} ({} bytes) are wanted, {} of {} are used", format_bytes(size), size,
                              format_bytes(used_bytes_), format_bytes(file_.size_bytes())),
                  "Raise --disk-mem, put less on disk (--percent), or lower the batch size");
}

void ScratchStore::give_back(std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  std::lock_guard lock(mutex_);
  used_bytes_ -= size_bytes;
  auto after = gaps_.lower_bound(offset_bytes);
  if (after != gaps_.end() && after->first == offset_bytes + size_bytes) {
    size_bytes += after->second;
    after = gaps_.erase(after);
  }
  if (after != gaps_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset_bytes) {
      before->second += size_bytes;
      return;
    }
  }
  gaps_[offset_bytes] = size_bytes;
}

std::uint64_t ScratchStore::used_bytes() const {
  std::lock_guard lock(mutex_);
  return used_bytes_;
}

}  // namespace flexgen

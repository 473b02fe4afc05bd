#include "storage/append_log.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/direct_reader.hpp"
#include "storage/direct_writer.hpp"

namespace flexgen {

AppendRegion::AppendRegion(std::shared_ptr<const ScratchRegion> part)
    : part_(std::move(part)), tail_(direct_alignment) {}

void AppendRegion::restart(std::uint64_t offset_bytes) {
  FLEXGEN_CHECK(part_ && offset_bytes % direct_alignment == 0 && offset_bytes <= part_->capacity_bytes(),
                "a region begins where its part of the file does not reach");
  begin_bytes_ = offset_bytes;
  size_bytes_ = 0;
}

void AppendRegion::append(IoQueue& queue, std::span<const std::byte> data) {
  const Append one{this, data};
  append_many(queue, {&one, 1});
}

void AppendRegion::read_prefix(IoQueue& queue, std::uint64_t size_bytes, std::byte* destination) const {
  const Read one{this, size_bytes, destination};
  read_many(queue, {&one, 1});
}

void AppendRegion::append_many(IoQueue& queue, std::span<const Append> appends) {
  bool repeated = false;
  for (const auto& [region, data] : appends) repeated = std::exchange(region->in_batch_, true) || repeated;
  for (const auto& [region, data] : appends) region->in_batch_ = false;
  FLEXGEN_CHECK(!repeated, "a region stands twice in a batch of appends");

  std::vector<ExtentWrite> writes;
  writes.reserve(appends.size());
  for (const auto& [region, data] : appends) {
    FLEXGEN_CHECK(data.size() <= region->capacity_bytes() - region->size_bytes_, "more is appended than has room");
    const std::uint64_t tail = region->tail_bytes();
    const std::uint64_t whole = align_down(tail + data.size(), direct_alignment);
    if (whole == 0) continue;
    writes.push_back({&region->part_->file(),
                      region->part_->offset_bytes() + region->begin_bytes_ + region->flushed_bytes(),
                      whole,
                      {region->tail_.data(), tail},
                      data});
  }
  write_extents(queue, writes);
  for (const auto& [region, data] : appends) region->commit(data);
}

// The bytes after the last whole block become the tail.
void AppendRegion::commit(std::span<const std::byte> data) {
  const std::uint64_t tail = tail_bytes();
  const std::uint64_t new_tail = (tail + data.size()) % direct_alignment;
  const bool block_filled = tail + data.size() >= direct_alignment;
  const std::uint64_t kept = block_filled ? 0 : tail;
  const std::uint64_t from_data = new_tail - kept;
  if (from_data > 0) std::memcpy(tail_.data() + kept, data.data() + data.size() - from_data, from_data);
  size_bytes_ += data.size();
}

void AppendRegion::read_many(IoQueue& queue, std::span<const Read> reads) {
  std::vector<ExtentRead> extents;
  extents.reserve(reads.size());
  for (const auto& [region, size, destination] : reads) {
    FLEXGEN_CHECK(size <= region->size_bytes_, "more is read than was appended");
    const std::uint64_t from_file = std::min(size, region->flushed_bytes());
    if (from_file > 0) extents.push_back({region->part_->extent(region->begin_bytes_, from_file), destination});
    if (size > from_file) std::memcpy(destination + from_file, region->tail_.data(), size - from_file);
  }
  read_extents(queue, extents);
}

}  // namespace flexgen

#include "storage/direct_reader.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/io_error.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t min_straight_bytes = 64 * KiB;

/// Cuts extents into requests: straight ones, and bounce pieces that are copied out when they are done.
class ReadSource : public IoSource {
 public:
  ReadSource(std::span<const ExtentRead> reads, BounceArea& bounce) : reads_(reads), bounce_(bounce) {
    bounce_.reset();
  }

  bool next(IoRequest& request, std::uint64_t& tag) override {
    while (current_ < reads_.size() && position_ == reads_[current_].extent.size_bytes) {
      ++current_;
      position_ = 0;
    }
    if (current_ == reads_.size()) return false;
    if (const std::uint64_t straight = straight_bytes()) {
      const ExtentRead& read = reads_[current_];
      request = {read.extent.file->fd(), read.extent.offset_bytes + position_, read.destination + position_, straight};
      tag = BounceArea::no_slot_tag;
      position_ += straight;
      return true;
    }
    return next_bounced(request, tag);
  }

  void done(std::uint64_t tag) override {
    if (tag == BounceArea::no_slot_tag) return;
    const auto slot = static_cast<std::uint32_t>(tag);
    const CopyOut& copy = copies_[slot];
    std::memcpy(copy.destination, bounce_.data(slot) + copy.skip_bytes, copy.size_bytes);
    bounce_.give_back(slot);
  }

 private:
  struct CopyOut {
    std::byte* destination = nullptr;
    std::uint64_t skip_bytes = 0;
    std::uint64_t size_bytes = 0;
  };

  // Bytes from the current position that may go straight to the destination; 0: bounce first.
  std::uint64_t straight_bytes() const {
    const auto& [extent, destination] = reads_[current_];
    if (!extent.file->direct()) return extent.size_bytes - position_;
    if (!goes_straight(reads_[current_])) return 0;
    const std::uint64_t begin = extent.offset_bytes + position_;
    if (begin % direct_alignment != 0) return 0;
    return align_down(extent.offset_bytes + extent.size_bytes, direct_alignment) - begin;
  }

  static bool goes_straight(const ExtentRead& read) {
    const auto address = reinterpret_cast<std::uintptr_t>(read.destination);
    return read.extent.size_bytes >= min_straight_bytes &&
           address % direct_alignment == read.extent.offset_bytes % direct_alignment;
  }

  bool next_bounced(IoRequest& request, std::uint64_t& tag) {
    const auto slot = bounce_.take();
    if (!slot) return false;
    const ExtentRead& read = reads_[current_];
    const std::uint64_t begin = read.extent.offset_bytes + position_;
    const std::uint64_t block = align_down(begin, direct_alignment);
    std::uint64_t end = std::min(block + BounceArea::slot_bytes, read.extent.offset_bytes + read.extent.size_bytes);
    // The head of a straight extent: only up to the first aligned byte.
    if (begin != block && goes_straight(read)) end = std::min(end, block + direct_alignment);
    const std::uint64_t block_end = align_up(end, direct_alignment);
    request = {read.extent.file->fd(), block, bounce_.data(*slot), block_end - block, false, block_end - end};
    copies_[*slot] = {read.destination + position_, begin - block, end - begin};
    tag = *slot;
    position_ += end - begin;
    return true;
  }

  std::span<const ExtentRead> reads_;
  BounceArea& bounce_;
  std::array<CopyOut, BounceArea::num_slots> copies_{};
  std::size_t current_ = 0;
  std::uint64_t position_ = 0;  // within the current extent
};

void check_inside(const FileExtent& extent) {
  FLEXGEN_CHECK(extent.file && extent.file->is_open(), "an extent needs an open file");
  const std::uint64_t file_bytes = extent.file->size_bytes();
  if (extent.offset_bytes > file_bytes || extent.size_bytes > file_bytes - extent.offset_bytes) {
    throw io_error(extent.file->fd(), false, extent.offset_bytes, extent.size_bytes, end_of_file);
  }
}

}  // namespace

void read_extents(IoQueue& queue, std::span<const ExtentRead> reads) {
  for (const ExtentRead& read : reads) check_inside(read.extent);
  ReadSource source(reads, queue.bounce());
  queue.run_source(source);
}

StagingPlaces::StagingPlaces(std::size_t count, std::uint64_t place_bytes) : place_bytes_(place_bytes) {
  FLEXGEN_CHECK(count > 0, "without a place nobody reads");
  for (std::size_t i = 0; i < count; ++i) free_.emplace_back(place_bytes);
}

AlignedBuffer StagingPlaces::take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !free_.empty(); });
  AlignedBuffer place = std::move(free_.back());
  free_.pop_back();
  return place;
}

std::size_t StagingPlaces::num_free() {
  const std::lock_guard lock(mutex_);
  return free_.size();
}

void StagingPlaces::give_back(AlignedBuffer place) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(place));
  }
  changed_.notify_one();
}

StagedReader::StagedReader(std::shared_ptr<StagingPlaces> places, std::unique_ptr<IoQueue> queue)
    : places_(std::move(places)), queue_(std::move(queue)) {
  FLEXGEN_CHECK(places_ && queue_, "a StagedReader needs places and a queue");
}

void StagedReader::clear() {
  used_bytes_ = 0;
  reads_.clear();
  if (memory_.size_bytes() > 0) places_->give_back(std::exchange(memory_, {}));
}

// Where an extent of this offset begins: at the next address that is congruent to it (see above).
std::uint64_t StagedReader::place(std::uint64_t offset_bytes) const {
  return align_up(used_bytes_, direct_alignment) + offset_bytes % direct_alignment;
}

std::uint64_t StagedReader::room_bytes(std::uint64_t offset_bytes) const {
  const std::uint64_t at = place(offset_bytes);
  return at < places_->place_bytes() ? places_->place_bytes() - at : 0;
}

std::byte* StagedReader::stage(const FileExtent& extent) {
  if (extent.size_bytes > room_bytes(extent.offset_bytes)) return nullptr;
  check_inside(extent);
  if (memory_.size_bytes() == 0) memory_ = places_->take();
  const std::uint64_t at = place(extent.offset_bytes);
  const std::uint64_t before = extent.offset_bytes % direct_alignment;
  const std::uint64_t end = align_up(before + extent.size_bytes, direct_alignment);
  used_bytes_ = at + extent.size_bytes;
  reads_.push_back({extent.file->fd(), extent.offset_bytes - before, memory_.data() + at - before, end, false,
                    end - before - extent.size_bytes});
  return memory_.data() + at;
}

void StagedReader::read() {
  if (reads_.empty()) return;
  queue_->run(reads_);
  reads_.clear();
}

void StagedReader::copy(const FileExtent& extent, std::byte* destination) {
  for (std::uint64_t done = 0; done < extent.size_bytes;) {
    clear();
    const std::uint64_t at = extent.offset_bytes + done;
    const std::uint64_t part = std::min(extent.size_bytes - done, room_bytes(at));
    const std::byte* from = stage({extent.file, at, part});
    read();
    std::memcpy(destination + done, from, part);
    done += part;
  }
  clear();
}

ExtentReader::ExtentReader(std::unique_ptr<IoQueue> queue) : queue_(std::move(queue)) {
  FLEXGEN_CHECK(queue_, "an ExtentReader needs a queue");
}

void ExtentReader::read(std::span<const FileExtent> extents, std::byte* destination) {
  std::vector<ExtentRead> reads;
  reads.reserve(extents.size());
  for (const FileExtent& extent : extents) {
    if (extent.size_bytes > 0) {
      FileExtent* last = reads.empty() ? nullptr : &reads.back().extent;
      if (last && last->file == extent.file && last->offset_bytes + last->size_bytes == extent.offset_bytes) {
        last->size_bytes += extent.size_bytes;
      } else {
        reads.push_back({extent, destination});
      }
    }
    destination += extent.size_bytes;
  }
  read_extents(*queue_, reads);
}

}  // namespace flexgen

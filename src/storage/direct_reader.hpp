// Reads any byte extents of files, whatever their alignment, at the speed of direct I/O.
//
// Rules of direct I/O (O_DIRECT): file offset, length and memory address are multiples of 4096. An extent that does
// not comply is over-read: the aligned blocks around it go to a bounce slot and the wanted bytes are copied out,
// while further reads are in flight. Where an extent of at least 64 KiB lies so that
//     address of its first byte  ==  file offset of its first byte   (modulo 4096)
// its aligned middle goes straight to the destination and only the two edges (< 4096 bytes each) bounce. Whoever
// lays out the destination gains by keeping that congruence. Buffered files are always read straight.
//
// Ownership: files and destinations are borrowed. Thread-safety: as the IoQueue, one thread at a time.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "storage/aligned_buffer.hpp"
#include "storage/file_handle.hpp"
#include "storage/io_queue.hpp"

namespace flexgen {

struct FileExtent {
  const FileHandle* file = nullptr;
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;
};

/// One extent and where it goes.
struct ExtentRead {
  FileExtent extent;
  std::byte* destination = nullptr;
};

/// Reads all extents with one deep queue, using the queue's bounce area.
/// Throws UserError (file) when an extent reaches past the end of its file or a read fails.
void read_extents(IoQueue& queue, std::span<const ExtentRead> reads);

/// Memory into which the readers of a disk read, a place each at a time. As many read at once as there are places: past
/// some point more in flight makes disks slower. What was given back last is taken first, while it lies in the caches:
/// virtual disks, which copy, fill it faster. Thread-safe.
class StagingPlaces {
 public:
  StagingPlaces(std::size_t count, std::uint64_t place_bytes);

  /// Waits until one is free.
  AlignedBuffer take();
  void give_back(AlignedBuffer place);
  std::uint64_t place_bytes() const { return place_bytes_; }
  std::size_t num_free();

 private:
  std::uint64_t place_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<AlignedBuffer> free_;  // the last one is the next to be taken
};

/// Reads extents into staging memory: the whole blocks around each, so that nothing bounces and no edge is read by
/// itself. Holds a place from the first extent that is staged until clear(), and must not wait for another reader then.
/// One thread at a time.
class StagedReader {
 public:
  StagedReader(std::shared_ptr<StagingPlaces> places, std::unique_ptr<IoQueue> queue);
  ~StagedReader() { clear(); }
  StagedReader(const StagedReader&) = delete;
  StagedReader& operator=(const StagedReader&) = delete;

  /// Forgets what was staged.
  void clear();
  /// Adds an extent to the next read() and says where its bytes will stand until clear(); null when they do not fit.
  /// May wait for a place.
  std::byte* stage(const FileExtent& extent);
  /// Bytes of an extent of this file offset that still fit.
  std::uint64_t room_bytes(std::uint64_t offset_bytes) const;
  /// Reads what was staged since the last read(). Errors as read_extents.
  void read();
  /// Clears, and copies an extent of any size to `destination` through the staging memory.
  void copy(const FileExtent& extent, std::byte* destination);

 private:
  std::uint64_t place(std::uint64_t offset_bytes) const;

  std::shared_ptr<StagingPlaces> places_;
  std::unique_ptr<IoQueue> queue_;
  AlignedBuffer memory_;  // empty: no place is held
  std::uint64_t used_bytes_ = 0;
  std::vector<IoRequest> reads_;
};

/// A queue and the reads that go through it.
class ExtentReader {
 public:
  explicit ExtentReader(std::unique_ptr<IoQueue> queue = IoQueue::make());

  /// Reads the extents one after another into `destination` (concatenated; the sum of their sizes). Neighbours in
  /// a file are joined. Errors as read_extents.
  void read(std::span<const FileExtent> extents, std::byte* destination);
  void read(const FileExtent& extent, std::byte* destination) { read({&extent, 1}, destination); }

  IoQueue& queue() { return *queue_; }

 private:
  std::unique_ptr<IoQueue> queue_;
};

}  // namespace flexgen

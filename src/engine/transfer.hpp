// Moving bytes between host, disk and the computing device from within a stream's task.
//
// One per stream: owns the stream's I/O queue and its pinned staging halves. On the host device disk reads go
// straight to their destination; on a GPU they pass through staging, one half being read while the other is copied.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "device/stream.hpp"
#include "engine/tier_memory.hpp"
#include "storage/append_log.hpp"
#include "storage/direct_reader.hpp"
#include "storage/io_queue.hpp"
#include "storage/scratch_store.hpp"

namespace flexgen {

class Transfer {
 public:
  /// @param staging  none: nothing comes from disk or goes there; its halves are empty on the host device
  Transfer(Stream& stream, std::optional<DiskStaging> staging);

  Stream& stream() { return stream_; }
  IoQueue& queue() { return *queue_; }

  /// Host memory to the device, in copies of at most 64 MiB so that small copies are not blocked behind large ones.
  void host_to_gpu(std::byte* to, const std::byte* from, std::uint64_t bytes, const char* what);
  void gpu_to_host(std::byte* to, const std::byte* from, std::uint64_t bytes, const char* what);
  void within_gpu(std::byte* to, const std::byte* from, std::uint64_t bytes, const char* what);

  /// Concatenates the extents at `to` on the device.
  void disk_to_gpu(std::byte* to, std::span<const FileExtent> extents, const char* what);

  /// Prefixes of append regions to places on the device.
  struct RegionLoad {
    const AppendRegion* region = nullptr;
    std::uint64_t bytes = 0;
    std::byte* to = nullptr;
  };
  void regions_to_gpu(std::span<const RegionLoad> loads, const char* what);

  struct RegionStore {
    AppendRegion* region = nullptr;
    const std::byte* from = nullptr;  // on the device
    std::uint64_t bytes = 0;
  };
  /// Appends; returns when the data has left the device's memory and is safe.
  void gpu_to_regions(std::span<const RegionStore> stores, const char* what);

  /// Writes device memory to the start of a scratch region.
  void gpu_to_disk(const ScratchRegion& region, const std::byte* from, std::uint64_t bytes, const char* what);

 private:
  struct Half {
    HostPiece memory;
    EventPtr copied;  // the copy out of (or into) this half
  };
  // The same memory cut into blocks; whoever takes the one view waits for the other's copies.
  struct StageBlock {
    std::byte* data = nullptr;
    bool reading = false;
    std::uint64_t skip = 0;  // bytes before the wanted ones
    std::uint64_t bytes = 0;
    std::byte* to = nullptr;
    EventPtr copied;
  };
  class StagedReads;
  Half& next_half();
  void read(std::span<const ExtentRead> reads, std::uint64_t bytes, const char* what);

  Stream& stream_;
  bool on_gpu_;
  CountedBytes bounce_;  // of the queue
  std::unique_ptr<IoQueue> queue_;
  std::array<Half, 2> halves_;
  std::size_t turn_ = 0;
  std::vector<StageBlock> stage_blocks_;
};

}  // namespace flexgen

#include "engine/transfer.hpp"

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/direct_writer.hpp"

namespace flexgen {
namespace {
constexpr std::uint64_t largest_copy_bytes = 64 * MiB;
}

Transfer::Transfer(Stream& stream, bool uses_disk, std::uint64_t staging_half_bytes)
    : stream_(stream), on_gpu_(stream.device().is_cuda()) {
  if (!uses_disk) return;
  queue_ = IoQueue::make();
  if (on_gpu_)
    for (Half& half : halves_) half.buffer = Buffer(MemoryKind::pinned, staging_half_bytes, stream.device());
}

void Transfer::host_to_gpu(std::byte* to, const std::byte* from, std::uint64_t bytes, const char* what) {
  for (std::uint64_t done = 0; done < bytes; done += largest_copy_bytes)
    stream_.copy(to + done, from + done, std::min(largest_copy_bytes, bytes - done), Resource::host_to_gpu, what);
}

void Transfer::gpu_to_host(std::byte* to, const std::byte* from, std::uint64_t bytes, const char* what) {
  for (std::uint64_t done = 0; done < bytes; done += largest_copy_bytes)
    stream_.copy(to + done, from + done, std::min(largest_copy_bytes, bytes - done), Resource::gpu_to_host, what);
}

void Transfer::within_gpu(std::byte* to, const std::byte* from, std::uint64_t bytes, const char* what) {
  stream_.copy(to, from, bytes, Resource::gpu_copy, what);
}

Transfer::Half& Transfer::next_half() {
  Half& half = halves_[turn_];
  turn_ = 1 - turn_;
  if (half.copied) half.copied->synchronize();
  half.copied = nullptr;
  return half;
}

void Transfer::read(std::span<const ExtentRead> reads, std::uint64_t bytes, const char* what) {
  const TraceSpan span(stream_.tracer(), Resource::disk_read, what, bytes);
  read_extents(*queue_, reads);
}

void Transfer::disk_to_gpu(std::byte* to, std::span<const FileExtent> extents, const char* what) {
  std::vector<ExtentRead> reads;
  if (!on_gpu_) {
    std::uint64_t bytes = 0;
    for (const FileExtent& extent : extents) {
      reads.push_back({extent, to + bytes});
      bytes += extent.size_bytes;
    }
    read(reads, bytes, what);
    return;
  }
  // Fill a half with as many (parts of) extents as fit, start its copy, go on with the other half.
  std::size_t at = 0;
  std::uint64_t within = 0;
  std::uint64_t done = 0;
  while (at < extents.size()) {
    Half& half = next_half();
    const std::uint64_t room = half.buffer.size_bytes();
    std::uint64_t filled = 0;
    reads.clear();
    while (at < extents.size() && filled < room) {
      const FileExtent& extent = extents[at];
      const std::uint64_t part = std::min(extent.size_bytes - within, room - filled);
      reads.push_back({{extent.file, extent.offset_bytes + within, part}, half.buffer.data() + filled});
      filled += part;
      within += part;
      if (within == extent.size_bytes) {
        ++at;
        within = 0;
      }
    }
    read(reads, filled, what);
    host_to_gpu(to + done, half.buffer.data(), filled, what);
    half.copied = stream_.record_in_task();
    done += filled;
  }
}

void Transfer::regions_to_gpu(std::span<const RegionLoad> loads, const char* what) {
  std::vector<AppendRegion::Read> reads;
  std::size_t at = 0;
  while (at < loads.size()) {
    std::size_t end = at;
    std::uint64_t filled = 0;
    Half* half = on_gpu_ ? &next_half() : nullptr;
    reads.clear();
    for (; end < loads.size(); ++end) {
      if (half && end > at && filled + loads[end].bytes > half->buffer.size_bytes()) break;
      FLEXGEN_CHECK(!half || loads[end].bytes <= half->buffer.size_bytes(), "staging is smaller than a cache segment");
      reads.push_back({loads[end].region, loads[end].bytes, half ? half->buffer.data() + filled : loads[end].to});
      filled += loads[end].bytes;
    }
    {
      const TraceSpan span(stream_.tracer(), Resource::disk_read, what, filled);
      AppendRegion::read_many(*queue_, reads);
    }
    if (half) {
      for (std::size_t i = at; i < end; ++i) host_to_gpu(loads[i].to, reads[i - at].destination, loads[i].bytes, what);
      half->copied = stream_.record_in_task();
    }
    at = end;
  }
}

void Transfer::gpu_to_regions(std::span<const RegionStore> stores, const char* what) {
  std::vector<AppendRegion::Append> appends;
  std::size_t at = 0;
  while (at < stores.size()) {
    std::size_t end = at;
    std::uint64_t filled = 0;
    Half* half = on_gpu_ ? &next_half() : nullptr;
    appends.clear();
    for (; end < stores.size(); ++end) {
      if (half && end > at && filled + stores[end].bytes > half->buffer.size_bytes()) break;
      FLEXGEN_CHECK(!half || stores[end].bytes <= half->buffer.size_bytes(), "staging is smaller than a cache segment");
      const std::byte* from = stores[end].from;
      if (half) {
        std::byte* staged = half->buffer.data() + filled;
        gpu_to_host(staged, from, stores[end].bytes, what);
        from = staged;
      }
      appends.push_back({stores[end].region, {from, stores[end].bytes}});
      filled += stores[end].bytes;
    }
    if (half) stream_.record_in_task()->synchronize();
    const TraceSpan span(stream_.tracer(), Resource::disk_write, what, filled);
    AppendRegion::append_many(*queue_, appends);
    at = end;
  }
}

void Transfer::gpu_to_disk(const ScratchRegion& region, const std::byte* from, std::uint64_t bytes, const char* what) {
  if (!on_gpu_) {
    const TraceSpan span(stream_.tracer(), Resource::disk_write, what, bytes);
    region.write(*queue_, {from, bytes});
    return;
  }
  std::uint64_t done = 0;
  while (done < bytes) {
    Half& half = next_half();
    const std::uint64_t part = std::min(bytes - done, align_down(half.buffer.size_bytes(), direct_alignment));
    gpu_to_host(half.buffer.data(), from + done, part, what);
    stream_.record_in_task()->synchronize();
    const TraceSpan span(stream_.tracer(), Resource::disk_write, what, part);
    const ExtentWrite write{&region.file(), region.offset_bytes() + done, align_up(part, direct_alignment), {},
                            {half.buffer.data(), part}};
    write_extents(*queue_, {&write, 1});
    done += part;
  }
}

}  // namespace flexgen

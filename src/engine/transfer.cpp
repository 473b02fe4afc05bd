#include "engine/transfer.hpp"

#include <algorithm>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/direct_writer.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t largest_copy_bytes = 64 * MiB;
constexpr std::uint64_t stage_block_bytes = 2 * MiB;

}  // namespace

// Reads file extents through a ring of staging blocks: each block is read by direct I/O, over-reading to whole disk
// blocks, and copied to the GPU as soon as it is there, so that the disk's queue never runs empty.
class Transfer::StagedReads final : public IoSource {
 public:
  StagedReads(std::span<const FileExtent> extents, std::byte* to, std::vector<StageBlock>& blocks, Transfer& transfer,
              const char* what)
      : extents_(extents), to_(to), blocks_(blocks), transfer_(transfer), what_(what) {
    skip_empty();
  }

  bool finished() const { return at_ == extents_.size() && num_reading_ == 0; }

  bool next(IoRequest& request, std::uint64_t& tag) override {
    if (at_ == extents_.size()) return false;
    StageBlock& block = blocks_[turn_];
    if (block.reading || (block.copied && !block.copied->complete())) return false;
    const FileExtent& extent = extents_[at_];
    const std::uint64_t begin = extent.offset_bytes + within_;
    // Two disk blocks of room for the edges; a whole number of them, so that an aligned extent stays aligned.
    const std::uint64_t part = std::min(extent.size_bytes - within_, stage_block_bytes - 2 * direct_alignment);
    const std::uint64_t from = align_down(begin, direct_alignment);
    const std::uint64_t until = align_up(begin + part, direct_alignment);
    block.reading = true;
    block.skip = begin - from;
    block.bytes = part;
    block.to = to_ + done_;
    request = {extent.file->fd(), from, block.data, until - from, false, until - (begin + part)};
    tag = turn_;
    ++num_reading_;
    turn_ = (turn_ + 1) % blocks_.size();
    within_ += part;
    done_ += part;
    if (within_ == extent.size_bytes) {
      ++at_;
      within_ = 0;
      skip_empty();
    }
    return true;
  }

  void done(std::uint64_t tag) override {
    StageBlock& block = blocks_[tag];
    transfer_.host_to_gpu(block.to, block.data + block.skip, block.bytes, what_);
    block.copied = transfer_.stream_.record_in_task();
    block.reading = false;
    --num_reading_;
  }

  void wait_for_a_block() {
    if (at_ < extents_.size() && blocks_[turn_].copied) blocks_[turn_].copied->synchronize();
  }

 private:
  void skip_empty() {
    while (at_ < extents_.size() && extents_[at_].size_bytes == 0) ++at_;
  }

  std::span<const FileExtent> extents_;
  std::byte* to_;
  std::vector<StageBlock>& blocks_;
  Transfer& transfer_;
  const char* what_;
  std::size_t at_ = 0;        // extent that is being handed out
  std::uint64_t within_ = 0;  // bytes of it handed out
  std::uint64_t done_ = 0;    // bytes handed out in all
  std::size_t turn_ = 0;      // block that comes next
  std::size_t num_reading_ = 0;
};

Transfer::Transfer(Stream& stream, std::optional<DiskStaging> staging)
    : stream_(stream), on_gpu_(stream.device().is_cuda()) {
  if (!staging) return;
  bounce_ = std::move(staging->bounce);
  queue_ = IoQueue::make();
  for (std::size_t h = 0; h < halves_.size(); ++h) {
    HostPiece& memory = halves_[h].memory;
    memory = std::move(staging->halves[h]);
    for (std::uint64_t at = 0; at + stage_block_bytes <= memory.buffer().size_bytes(); at += stage_block_bytes)
      stage_blocks_.push_back({memory.data() + at, false, 0, 0, nullptr, nullptr});
  }
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
  for (StageBlock& block : stage_blocks_)
    if (block.copied) std::exchange(block.copied, nullptr)->synchronize();
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
  std::uint64_t bytes = 0;
  for (const FileExtent& extent : extents) bytes += extent.size_bytes;
  const TraceSpan span(stream_.tracer(), Resource::disk_read, what, bytes);
  for (Half& half : halves_)
    if (half.copied) std::exchange(half.copied, nullptr)->synchronize();
  StagedReads source(extents, to, stage_blocks_, *this, what);
  while (!source.finished()) {
    queue_->run_source(source);
    source.wait_for_a_block();  // the run ended because every block was on its way to the GPU
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
      if (half && end > at && filled + loads[end].bytes > half->memory.buffer().size_bytes()) break;
      FLEXGEN_CHECK(!half || loads[end].bytes <= half->memory.buffer().size_bytes(),
                    "staging is smaller than a cache segment");
      reads.push_back({loads[end].region, loads[end].bytes, half ? half->memory.data() + filled : loads[end].to});
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
      if (half && end > at && filled + stores[end].bytes > half->memory.buffer().size_bytes()) break;
      FLEXGEN_CHECK(!half || stores[end].bytes <= half->memory.buffer().size_bytes(),
                    "staging is smaller than a cache segment");
      const std::byte* from = stores[end].from;
      if (half) {
        std::byte* staged = half->memory.data() + filled;
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
    const std::uint64_t part = std::min(bytes - done, align_down(half.memory.buffer().size_bytes(), direct_alignment));
    gpu_to_host(half.memory.data(), from + done, part, what);
    stream_.record_in_task()->synchronize();
    const TraceSpan span(stream_.tracer(), Resource::disk_write, what, part);
    const ExtentWrite write{
        &region.file(), region.offset_bytes() + done, align_up(part, direct_alignment), {}, {half.memory.data(), part}};
    write_extents(*queue_, {&write, 1});
    done += part;
  }
}

}  // namespace flexgen

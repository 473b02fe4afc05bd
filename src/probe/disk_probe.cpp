#include "probe/disk_probe.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/trace.hpp"
#include "storage/host_memory.hpp"
#include "storage/io_queue.hpp"
#include "storage/scratch_file.hpp"

namespace flexgen {
namespace {

struct Point {
  std::uint64_t block_bytes;
  int queue_depth;
};

const std::vector<Point> all_points{{64 * KiB, 32}, {64 * KiB, 128}, {256 * KiB, 8}, {256 * KiB, 32}, {256 * KiB, 128},
                                    {1 * MiB, 1},   {1 * MiB, 8},    {1 * MiB, 32},  {1 * MiB, 64},   {1 * MiB, 128}};
const std::vector<Point> quick_points{{256 * KiB, 32}, {1 * MiB, 8}, {1 * MiB, 32}};

// Blocks of the file one after another, from where the last point stopped, until the time is over or the file is done.
class Walk : public IoSource {
 public:
  Walk(const FileHandle& file, bool write, const Point& point, std::span<std::byte> memory, std::uint64_t& place,
       std::uint64_t limit_bytes, double limit_seconds)
      : file_(file),
        write_(write),
        block_bytes_(point.block_bytes),
        memory_(memory),
        place_(place),
        limit_bytes_(limit_bytes),
        end_ns_(now_ns() + static_cast<std::uint64_t>(limit_seconds * 1e9)) {
    for (std::uint64_t slot = 0; slot < memory.size() / block_bytes_; ++slot) free_slots_.push_back(slot);
  }

  bool next(IoRequest& request, std::uint64_t& tag) override {
    if (free_slots_.empty() || num_bytes_ >= limit_bytes_ || now_ns() >= end_ns_) return false;
    tag = free_slots_.back();
    free_slots_.pop_back();
    if (place_ + block_bytes_ > file_.size_bytes()) place_ = 0;
    request = {file_.fd(), place_, memory_.data() + tag * block_bytes_, block_bytes_, write_, 0};
    place_ += block_bytes_;
    num_bytes_ += block_bytes_;
    return true;
  }
  void done(std::uint64_t tag) override { free_slots_.push_back(tag); }

  std::uint64_t num_bytes() const { return num_bytes_; }

 private:
  const FileHandle& file_;
  bool write_;
  std::uint64_t block_bytes_;
  std::span<std::byte> memory_;
  std::uint64_t& place_;
  std::uint64_t limit_bytes_;
  std::uint64_t end_ns_;
  std::uint64_t num_bytes_ = 0;
  std::vector<std::uint64_t> free_slots_;
};

class DiskProbe {
 public:
  DiskProbe(const std::filesystem::path& directory, std::uint64_t file_bytes, const DiskProbeOptions& options)
      : options_(options), file_(directory, file_bytes), memory_(128 * MiB) {
    std::uint64_t word = 88172645463325252ULL;
    for (std::uint64_t at = 0; at < memory_.size_bytes(); at += sizeof word) {
      word = word * 6364136223846793005ULL + 1442695040888963407ULL;
      std::memcpy(memory_.data() + at, &word, sizeof word);
    }
  }

  bool direct() const { return file_.handle().direct(); }

  // Blocks that were never written read as zeros without touching the disk.
  void fill() { walk(true, {1 * MiB, 32}, file_.size_bytes(), 1e9); }

  DiskRate measure_burst(bool write, const Point& point) { return measure(write, point, options_.seconds_per_point); }

  // A burst may come out of a cache, or use up what a disk's host lends for a moment.
  DiskRate measure_sustained(bool write, const std::vector<DiskRate>& bursts) {
    const DiskRate& best = *std::ranges::max_element(bursts, {}, &DiskRate::bytes_per_second);
    return measure(write, {best.block_bytes, best.queue_depth}, options_.seconds_sustained);
  }

 private:
  DiskRate measure(bool write, const Point& point, double limit_seconds) {
    return {point.block_bytes, point.queue_depth, walk(write, point, file_.size_bytes(), limit_seconds)};
  }

  double walk(bool write, const Point& point, std::uint64_t limit_bytes, double limit_seconds) {
    std::string refusal;
    std::unique_ptr<IoQueue> queue = IoQueue::make_uring(point.queue_depth, refusal);
    if (!queue) queue = IoQueue::make_pread(std::clamp(point.queue_depth / 2, 1, 32));
    const std::uint64_t in_flight = point.block_bytes * static_cast<std::uint64_t>(point.queue_depth);
    if (!direct() && !write) ::posix_fadvise(file_.handle().fd(), 0, 0, POSIX_FADV_DONTNEED);
    const std::uint64_t begin_ns = now_ns();
    Walk source(file_.handle(), write, point, {memory_.data(), std::min(in_flight, memory_.size_bytes())}, place_,
                limit_bytes, limit_seconds);
    queue->run_source(source);
    if (write && ::fdatasync(file_.handle().fd()) != 0)
      throw UserError(ExitCode::file, "cannot write the disk's test file", errno_text(errno),
                      "Check the disk of --offload-dir");
    return static_cast<double>(source.num_bytes()) * 1e9 / static_cast<double>(now_ns() - begin_ns);
  }

  DiskProbeOptions options_;
  ScratchFile file_;
  AlignedBuffer memory_;
  std::uint64_t place_ = 0;
};

}  // namespace

DiskProfile measure_disk(const std::filesystem::path& directory, const DiskProbeOptions& options,
                         const std::function<void(std::string_view)>& progress) {
  // Half of what is free at most: others may be writing.
  const std::uint64_t free_bytes = free_disk_bytes(directory);
  const std::uint64_t file_bytes = align_down(std::min(options.file_bytes, free_bytes / 2), 1 * MiB);
  if (file_bytes < 16 * MiB)
    throw UserError(ExitCode::does_not_fit,
                    fmt::format("too little room to measure the disk of '{}'", directory.string()),
                    fmt::format("{} are free", format_bytes(free_bytes)), "Name another --offload-dir");
  progress(fmt::format("disk: writing {}", format_bytes(file_bytes)));
  DiskProbe probe(directory, file_bytes, options);
  probe.fill();

  DiskProfile profile;
  profile.directory = std::filesystem::absolute(directory).string();
  std::string refusal;
  profile.method = IoQueue::make_uring(1, refusal) ? "io_uring" : "pread";
  profile.direct = probe.direct();
  profile.file_bytes = file_bytes;
  profile.note =
      profile.direct
          ? fmt::format(
                "the page cache is bypassed; a virtual disk's host, or the drive's own memory, may still hold the {}",
                format_bytes(file_bytes))
          : "no direct I/O here: these are figures of the page cache as much as of a disk";
  const std::vector<Point>& points = options.quick ? quick_points : all_points;
  progress("disk: direct reads");
  for (const Point& point : points) profile.read.push_back(probe.measure_burst(false, point));
  profile.sustained_read = probe.measure_sustained(false, profile.read);
  progress("disk: direct writes");
  for (const Point& point : points) profile.write.push_back(probe.measure_burst(true, point));
  profile.sustained_write = probe.measure_sustained(true, profile.write);
  return profile;
}

}  // namespace flexgen

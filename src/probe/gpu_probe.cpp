#include "probe/gpu_probe.hpp"

#include "base/error.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "base/bytes.hpp"
#include "base/processors.hpp"
#include "base/trace.hpp"
#include "device/buffer.hpp"
#include "device/cuda_check.hpp"
#include "probe/host_traffic.hpp"
#endif

namespace flexgen {

#ifdef FLEXGEN_HAS_CUDA

namespace {

constexpr std::array<std::uint64_t, 6> chunk_sizes{64 * KiB, 256 * KiB, 1 * MiB, 4 * MiB, 16 * MiB, 64 * MiB};
constexpr std::uint64_t region_bytes = 256 * MiB;  // what the chunks of one direction walk through

// A stream with the events that time it.
class TimedStream {
 public:
  TimedStream() {
    FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    FLEXGEN_CUDA_CALL(cudaEventCreate(&begin_));
    FLEXGEN_CUDA_CALL(cudaEventCreate(&end_));
  }
  ~TimedStream() {
    cudaStreamSynchronize(stream_);
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }
  TimedStream(const TimedStream&) = delete;
  TimedStream& operator=(const TimedStream&) = delete;

  cudaStream_t get() const { return stream_; }
  void begin() { FLEXGEN_CUDA_CALL(cudaEventRecord(begin_, stream_)); }
  void end() { FLEXGEN_CUDA_CALL(cudaEventRecord(end_, stream_)); }
  void start_after_begin_of(const TimedStream& other) {
    FLEXGEN_CUDA_CALL(cudaStreamWaitEvent(stream_, other.begin_, 0));
  }
  void wait_for_end_of(const TimedStream& other) { FLEXGEN_CUDA_CALL(cudaStreamWaitEvent(stream_, other.end_, 0)); }
  double seconds() const {
    FLEXGEN_CUDA_CALL(cudaEventSynchronize(end_));
    float milliseconds = 0;
    FLEXGEN_CUDA_CALL(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return static_cast<double>(milliseconds) / 1e3;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace

class GpuProbe::Impl {
 public:
  Impl(const Device& device, bool quick)
      : device_(device),
        repetitions_(quick ? 2 : 4),
        scale_(quick ? 4 : 1),
        down_host_(MemoryKind::pinned, region_bytes, device),
        up_host_(MemoryKind::pinned, region_bytes, device),
        down_gpu_(MemoryKind::device, region_bytes, device),
        up_gpu_(MemoryKind::device, region_bytes, device) {
    use_device(device);
    fill_host_memory({down_host_.data(), region_bytes}, 4);
    FLEXGEN_CUDA_CALL(cudaMemset(up_gpu_.data(), 0x5a, region_bytes));
  }

  GpuProfile measure(const std::function<void(std::string_view)>& progress) {
    GpuProfile profile;
    profile.name = device_description(device_);
    progress("pinned copies to the GPU");
    for (const std::uint64_t chunk : chunk_sizes)
      profile.host_to_gpu.push_back({chunk, one_way(down_gpu_, down_host_, chunk)});
    progress("pinned copies from the GPU");
    for (const std::uint64_t chunk : chunk_sizes)
      profile.gpu_to_host.push_back({chunk, one_way(up_host_, up_gpu_, chunk)});
    progress("pinned copies both ways at once");
    for (const std::uint64_t chunk : chunk_sizes) profile.both_directions.push_back({chunk, both_ways(chunk)});
    progress("pageable copies to the GPU");
    profile.pageable_host_to_gpu_bytes_per_second = pageable();
    progress("copies within the GPU");
    profile.memory_bytes_per_second = within_gpu();
    progress("copies to the GPU while processors read host memory");
    const int num_processors = num_available_processors();
    for (const int quarters : {2, 3, 4})
      if (num_processors * quarters / 4 >= 1)
        profile.beside_host_reads.push_back(beside_reads(num_processors * quarters / 4));
    return profile;
  }

 private:
  // Small chunks are slow: less data keeps the time alike.
  std::uint64_t bytes_for(std::uint64_t chunk) const {
    return (chunk < 1 * MiB ? region_bytes : 4 * region_bytes) / scale_;
  }

  static void copy_chunks(std::byte* to, const std::byte* from, std::uint64_t chunk, std::uint64_t bytes,
                          cudaStream_t stream) {
    for (std::uint64_t done = 0; done < bytes; done += chunk) {
      const std::uint64_t at = done % region_bytes;
      FLEXGEN_CUDA_CALL(cudaMemcpyAsync(to + at, from + at, chunk, cudaMemcpyDefault, stream));
    }
  }

  double one_way(const Buffer& to, const Buffer& from, std::uint64_t chunk) {
    const std::uint64_t bytes = bytes_for(chunk);
    double best = 0;
    for (int i = 0; i <= repetitions_; ++i) {
      down_.begin();
      copy_chunks(to.data(), from.data(), chunk, bytes, down_.get());
      down_.end();
      const double rate = static_cast<double>(bytes) / down_.seconds();
      if (i > 0) best = std::max(best, rate);
    }
    return best;
  }

  double both_ways(std::uint64_t chunk) {
    const std::uint64_t bytes = bytes_for(chunk);
    double best = 0;
    for (int i = 0; i <= repetitions_; ++i) {
      down_.begin();
      up_.start_after_begin_of(down_);
      // In turns: one thread feeds both directions.
      for (std::uint64_t done = 0; done < bytes; done += chunk) {
        const std::uint64_t at = done % region_bytes;
        copy_chunks(down_gpu_.data() + at, down_host_.data() + at, chunk, chunk, down_.get());
        copy_chunks(up_host_.data() + at, up_gpu_.data() + at, chunk, chunk, up_.get());
      }
      up_.end();
      down_.wait_for_end_of(up_);
      down_.end();
      const double rate = 2 * static_cast<double>(bytes) / down_.seconds();
      if (i > 0) best = std::max(best, rate);
    }
    return best;
  }

  double pageable() {
    const Buffer host(MemoryKind::pageable, region_bytes, device_);
    fill_host_memory({host.data(), region_bytes}, 4);
    return one_way(down_gpu_, host, 16 * MiB);
  }

  double within_gpu() {
    // Far more than the GPU's caches hold, where there is room.
    const std::uint64_t bytes = align_down(std::clamp(device_memory(device_).free_bytes / 4, 16 * MiB, 1 * GiB), MiB);
    const Buffer from(MemoryKind::device, bytes, device_);
    const Buffer to(MemoryKind::device, bytes, device_);
    FLEXGEN_CUDA_CALL(cudaMemset(from.data(), 0x3c, bytes));
    FLEXGEN_CUDA_CALL(cudaStreamSynchronize(nullptr));
    constexpr int num_copies = 8;
    double best = 0;
    for (int i = 0; i <= repetitions_; ++i) {
      down_.begin();
      for (int n = 0; n < num_copies; ++n)
        FLEXGEN_CUDA_CALL(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, down_.get()));
      down_.end();
      const double rate = 2.0 * num_copies * static_cast<double>(bytes) / down_.seconds();
      if (i > 0) best = std::max(best, rate);
    }
    return best;
  }

  SharedMemoryRate beside_reads(int num_threads) {
    if (!reads_.data()) {
      reads_ = Buffer(MemoryKind::pageable, 4 * region_bytes, device_);
      fill_host_memory({reads_.data(), reads_.size_bytes()}, 4);
    }
    const HostTraffic readers(HostTrafficKind::read, {reads_.data(), reads_.size_bytes()}, num_threads);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    SharedMemoryRate best{num_threads, 0, 0};
    for (int i = 0; i < repetitions_; ++i) {
      const std::uint64_t bytes = 16 * region_bytes / scale_;
      const std::uint64_t begin_ns = now_ns();
      const std::uint64_t begin_bytes = readers.num_bytes();
      down_.begin();
      copy_chunks(down_gpu_.data(), down_host_.data(), 16 * MiB, bytes, down_.get());
      down_.end();
      const double copied = static_cast<double>(bytes) / down_.seconds();
      const double read =
          static_cast<double>(readers.num_bytes() - begin_bytes) * 1e9 / static_cast<double>(now_ns() - begin_ns);
      if (copied + read > best.read_bytes_per_second + best.host_to_gpu_bytes_per_second)
        best = {num_threads, read, copied};
    }
    return best;
  }

  Device device_;
  int repetitions_;
  std::uint64_t scale_;
  Buffer down_host_, up_host_, down_gpu_, up_gpu_;
  Buffer reads_;
  TimedStream down_, up_;
};

GpuProbe::GpuProbe(const Device& device, bool quick) {
  use_device(device);
  impl_ = std::make_unique<Impl>(device, quick);
}

GpuProfile GpuProbe::measure(const std::function<void(std::string_view)>& progress) { return impl_->measure(progress); }

#else

class GpuProbe::Impl {};

GpuProbe::GpuProbe(const Device&, bool) {
  throw UserError(ExitCode::usage, "no GPU to measure", "this build has no CUDA", "Use --device cpu");
}

GpuProfile GpuProbe::measure(const std::function<void(std::string_view)>&) { return {}; }

#endif

GpuProbe::~GpuProbe() = default;

}  // namespace flexgen

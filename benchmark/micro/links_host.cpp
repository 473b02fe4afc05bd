// Host-side links beside what bounds them: messages between in-process ranks (bounded by copying memory), and direct
// reads and writes of the disk under $FLEXGEN_BENCH_DIR, else the temporary directory, as probe/disk_probe measures
// them. A label names the ceiling, as compare.py reads it; the disk is its own.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <vector>

#include "comm/in_process.hpp"
#include "device/buffer.hpp"
#include "probe/disk_probe.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t kCopyBytes = 16 << 20;

Buffer touched_buffer(std::uint64_t bytes) {
  Buffer buffer(MemoryKind::pageable, bytes, {});
  std::memset(buffer.data(), 1, bytes);
  return buffer;
}

/// One thread, both buffers larger than the inner caches.
void thread_copy(benchmark::State& state) {
  const Buffer from = touched_buffer(kCopyBytes), to = touched_buffer(kCopyBytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), kCopyBytes);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kCopyBytes));
}

/// There and back between two threads; the time of one way. Argument: bytes.
void in_process_message(benchmark::State& state) {
  const auto bytes = static_cast<std::uint64_t>(state.range(0));
  const std::int64_t rounds = std::max<std::int64_t>(4, (32 << 20) / state.range(0) / 8);
  InProcessWorld world(2);
  for (auto _ : state) {
    double seconds = 0.0;
    world.run([&](Transport& transport, Communicator& ranks) {
      const Buffer buffer = touched_buffer(bytes);
      const int peer = 1 - transport.rank();
      ranks.barrier();
      const auto begin = std::chrono::steady_clock::now();
      for (std::int64_t i = 0; i < 2 * rounds; ++i) {
        if ((i + transport.rank()) % 2 == 0) transport.send({buffer.data(), bytes}, peer, Channel::hidden)->wait();
        else transport.recv({buffer.data(), bytes}, peer, Channel::hidden)->wait();
      }
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
      if (transport.rank() == 0) seconds = elapsed.count() / static_cast<double>(2 * rounds);
    });
    state.SetIterationTime(seconds);
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
  state.SetLabel("thread_copy");
}

const DiskProfile& disk() {
  static const DiskProfile profile = [] {
    const char* wanted = std::getenv("FLEXGEN_BENCH_DIR");
    DiskProbeOptions options;
    options.file_bytes = 512ULL << 20;
    options.quick = true;
    return measure_disk(wanted != nullptr ? std::filesystem::path(wanted) : std::filesystem::temp_directory_path(),
                        options, [](std::string_view) {});
  }();
  return profile;
}

/// The best rate over block size and depth; measured once, told as the time of a MiB.
void disk_rate(benchmark::State& state, const std::vector<DiskRate>& rates) {
  double best = 0.0;
  for (const DiskRate& rate : rates) best = std::max(best, rate.bytes_per_second);
  for (auto _ : state) state.SetIterationTime(static_cast<double>(1 << 20) / best);
  state.SetBytesProcessed(state.iterations() << 20);
}
void disk_read(benchmark::State& state) { disk_rate(state, disk().read); }
void disk_write(benchmark::State& state) { disk_rate(state, disk().write); }

BENCHMARK(thread_copy)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(in_process_message)->Arg(4096)->Arg(1 << 20)->Arg(16 << 20)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(disk_read)->UseManualTime()->Iterations(1)->Unit(benchmark::kMicrosecond);
BENCHMARK(disk_write)->UseManualTime()->Iterations(1)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace flexgen

BENCHMARK_MAIN();

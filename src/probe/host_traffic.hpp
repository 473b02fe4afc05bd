// Threads that keep host memory busy, to measure what it gives.
//
// Ownership: borrows the memory. Thread-safety: one owner; the rate may be asked for while the threads run.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

namespace flexgen {

enum class HostTrafficKind : std::uint8_t {
  read,  // every byte is read
  copy,  // the first half is copied to the second: bytes read and bytes written both count
};

class HostTraffic {
 public:
  /// Starts `num_threads` threads, each on its own part of `memory` (written before: untouched pages would read as one
  /// and the same page of zeros). `memory` should be several times the processor's caches.
  HostTraffic(HostTrafficKind kind, std::span<std::byte> memory, int num_threads);
  ~HostTraffic();
  HostTraffic(const HostTraffic&) = delete;
  HostTraffic& operator=(const HostTraffic&) = delete;

  /// Bytes moved by all threads since they started.
  std::uint64_t num_bytes() const;

  /// Bytes per second over the next `seconds`. Blocks.
  double measure(double seconds) const;

 private:
  struct alignas(64) Count {
    std::atomic<std::uint64_t> bytes{0};
  };
  void work(std::span<std::byte> part, Count& count) const;

  HostTrafficKind kind_;
  std::atomic<bool> stopping_{false};
  std::vector<Count> counts_;
  std::vector<std::thread> threads_;
};

/// Best rate of `repetitions` windows after a warm-up.
double measure_host_traffic(HostTrafficKind kind, std::span<std::byte> memory, int num_threads, double window_seconds,
                            int repetitions);

/// Writes all of `memory` with bytes that differ, by several threads.
void fill_host_memory(std::span<std::byte> memory, int num_threads);

}  // namespace flexgen

#include "probe/host_traffic.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/bytes.hpp"
#include "base/trace.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t page_bytes = 4096;
// Long enough that counting costs nothing, short enough that a window of 50 ms sees many.
constexpr std::uint64_t block_bytes = 1 * MiB;

// Independent sums, so that the loads do not wait for each other.
std::uint64_t sum_words(const std::byte* data, std::uint64_t bytes) {
  std::uint64_t sums[8] = {};
  std::uint64_t words[8];
  for (std::uint64_t at = 0; at + sizeof words <= bytes; at += sizeof words) {
    std::memcpy(words, data + at, sizeof words);
    for (int i = 0; i < 8; ++i) sums[i] += words[i];
  }
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) total += sum;
  return total;
}

std::span<std::byte> part_of(std::span<std::byte> memory, int index, int count) {
  const std::uint64_t share = align_down(memory.size() / static_cast<std::uint64_t>(count), page_bytes);
  return memory.subspan(share * static_cast<std::uint64_t>(index), share);
}

}  // namespace

HostTraffic::HostTraffic(HostTrafficKind kind, std::span<std::byte> memory, int num_threads)
    : kind_(kind), counts_(static_cast<std::size_t>(num_threads)) {
  for (int t = 0; t < num_threads; ++t)
    threads_.emplace_back(
        [this, part = part_of(memory, t, num_threads), t] { work(part, counts_[static_cast<std::size_t>(t)]); });
}

HostTraffic::~HostTraffic() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
}

void HostTraffic::work(std::span<std::byte> part, Count& count) const {
  const bool copies = kind_ == HostTrafficKind::copy;
  const std::uint64_t range = copies ? part.size() / 2 : part.size();
  std::uint64_t sum = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    for (std::uint64_t at = 0; at < range && !stopping_.load(std::memory_order_relaxed); at += block_bytes) {
      const std::uint64_t bytes = std::min(block_bytes, range - at);
      if (copies) std::memcpy(part.data() + range + at, part.data() + at, bytes);
      else sum += sum_words(part.data() + at, bytes);
      count.bytes.fetch_add(copies ? 2 * bytes : bytes, std::memory_order_relaxed);
    }
    if (range == 0) std::this_thread::yield();
  }
  static std::atomic<std::uint64_t> sink;  // the sums must be wanted by someone, or no loop is left
  sink.fetch_xor(sum, std::memory_order_relaxed);
}

std::uint64_t HostTraffic::num_bytes() const {
  std::uint64_t total = 0;
  for (const Count& count : counts_) total += count.bytes.load(std::memory_order_relaxed);
  return total;
}

double HostTraffic::measure(double seconds) const {
  const std::uint64_t begin_ns = now_ns();
  const std::uint64_t begin_bytes = num_bytes();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const std::uint64_t bytes = num_bytes() - begin_bytes;
  return static_cast<double>(bytes) * 1e9 / static_cast<double>(now_ns() - begin_ns);
}

double measure_host_traffic(HostTrafficKind kind, std::span<std::byte> memory, int num_threads, double window_seconds,
                            int repetitions) {
  const HostTraffic traffic(kind, memory, num_threads);
  traffic.measure(window_seconds / 2);
  double best = 0;
  for (int i = 0; i < repetitions; ++i) best = std::max(best, traffic.measure(window_seconds));
  return best;
}

void fill_host_memory(std::span<std::byte> memory, int num_threads) {
  std::vector<std::jthread> threads;
  threads.reserve(static_cast<std::size_t>(num_threads));
  for (int t = 0; t < num_threads; ++t)
    threads.emplace_back([part = part_of(memory, t, num_threads), t] {
      std::uint64_t word = static_cast<std::uint64_t>(t) + 1;
      for (std::uint64_t at = 0; at + sizeof word <= part.size(); at += sizeof word) {
        word = word * 6364136223846793005ULL + 1442695040888963407ULL;
        std::memcpy(part.data() + at, &word, sizeof word);
      }
    });
}

}  // namespace flexgen

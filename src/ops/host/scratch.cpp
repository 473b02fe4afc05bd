#include "ops/host/scratch.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "ops/host_scratch.hpp"

namespace flexgen {
namespace {

std::mutex reservations_mutex;
std::vector<std::uint64_t> reservations;        // of all that live
std::atomic<std::uint64_t> reserved_bytes = 0;  // the largest of them
std::atomic<std::uint64_t> held_bytes = 0;      // by all threads
std::atomic<std::uint64_t> most_beyond_reserved_bytes = 0;

// The lock is held.
void update_reserved() {
  const auto largest = std::max_element(reservations.begin(), reservations.end());
  reserved_bytes.store(largest == reservations.end() ? 0 : *largest, std::memory_order_relaxed);
}

}  // namespace

ThreadScratch::~ThreadScratch() {
  give_back_beyond(0);
  held_bytes.fetch_sub(size_bytes_, std::memory_order_relaxed);
}

ThreadScratch::Memory ThreadScratch::allocate(std::uint64_t bytes) {
  Memory memory(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{scratch_alignment})));
  held_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return memory;
}

void ThreadScratch::make_room() {
  const std::uint64_t wanted = std::max(reserved_bytes.load(std::memory_order_relaxed), peak_bytes_);
  if (wanted <= size_bytes_) return;
  memory_.reset();
  held_bytes.fetch_sub(size_bytes_, std::memory_order_relaxed);
  size_bytes_ = 0;
  memory_ = allocate(wanted);
  size_bytes_ = wanted;
}

void ThreadScratch::note_peak() {
  peak_bytes_ = used_bytes_;
  const std::uint64_t reserved = reserved_bytes.load(std::memory_order_relaxed);
  if (reserved == 0 || peak_bytes_ <= reserved) return;
  std::uint64_t most = most_beyond_reserved_bytes.load(std::memory_order_relaxed);
  while (most < peak_bytes_ - reserved &&
         !most_beyond_reserved_bytes.compare_exchange_weak(most, peak_bytes_ - reserved)) {
  }
}

std::byte* ThreadScratch::take_beyond(std::uint64_t bytes) {
  beyond_.push_back({allocate(bytes), bytes});
  return beyond_.back().memory.get();
}

void ThreadScratch::give_back_beyond(std::size_t num_left) {
  for (; beyond_.size() > num_left; beyond_.pop_back())
    held_bytes.fetch_sub(beyond_.back().bytes, std::memory_order_relaxed);
}

ThreadScratch& scratch_of_this_thread() {
  thread_local ThreadScratch scratch;
  return scratch;
}

HostScratchReservation::HostScratchReservation(std::uint64_t bytes_per_thread) : bytes_per_thread_(bytes_per_thread) {
  const std::lock_guard lock(reservations_mutex);
  reservations.push_back(bytes_per_thread_);
  update_reserved();
}

HostScratchReservation::~HostScratchReservation() {
  const std::lock_guard lock(reservations_mutex);
  reservations.erase(std::find(reservations.begin(), reservations.end(), bytes_per_thread_));
  update_reserved();
}

std::uint64_t thread_scratch_peak_bytes() { return scratch_of_this_thread().peak_bytes(); }

std::uint64_t host_scratch_bytes() { return held_bytes.load(std::memory_order_relaxed); }

std::uint64_t host_scratch_bytes_beyond_reservation() {
  return most_beyond_reserved_bytes.load(std::memory_order_relaxed);
}

}  // namespace flexgen

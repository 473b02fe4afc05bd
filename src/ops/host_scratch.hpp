// Memory that the host's ops take of each thread that they run on: what they need at most, and setting it aside.
//
// A thread has one buffer. It takes it when it first needs one, as large as what is reserved, keeps it from call to
// call, and grows it only where the reservation was too small (or there is none: ops work without). Thread-safe.
#pragma once

#include <cstdint>

#include "ops/attention_sizes.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

/// Upper bounds of the products of a matrix [outputs, inputs].
struct LinearSizes {
  std::int64_t tokens = 0;  // of a call
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  DType dtype = DType::float32;  // of tokens
  bool compressed = false;       // the matrix is
};

// Bytes of one thread at most, the caller of the op or one of the loop's: a call never takes more on any thread.
// Each is defined beside the op, of the very functions by which the op takes its memory.

std::uint64_t linear_scratch_bytes(const LinearSizes& most);
/// Of what linear_scratch_bytes counts, the part of a dequantized piece of the matrix.
std::uint64_t linear_compressed_scratch_bytes(const LinearSizes& most);
std::uint64_t layer_norm_scratch_bytes(std::int64_t hidden);
std::uint64_t quantize_scratch_bytes(std::int64_t cols);
std::uint64_t sample_rows_scratch_bytes(std::int64_t vocab);
/// Rows of any number of new tokens, and what appends to the cache.
std::uint64_t attention_scratch_bytes(const AttentionSizes& most);
/// `attention_decode_host` alone.
std::uint64_t attention_decode_scratch_bytes(const AttentionSizes& most);

/// While it lives, every thread that needs scratch takes at least `bytes_per_thread` at once: no call grows it.
class HostScratchReservation {
 public:
  explicit HostScratchReservation(std::uint64_t bytes_per_thread);
  ~HostScratchReservation();
  HostScratchReservation(const HostScratchReservation&) = delete;
  HostScratchReservation& operator=(const HostScratchReservation&) = delete;

 private:
  const std::uint64_t bytes_per_thread_;
};

/// The most that the calling thread had in use at a time.
std::uint64_t thread_scratch_peak_bytes();
/// What all threads of the process hold now.
std::uint64_t host_scratch_bytes();
/// The most by which a thread of the process has ever passed what was reserved; 0: reservations have sufficed.
std::uint64_t host_scratch_bytes_beyond_reservation();

}  // namespace flexgen

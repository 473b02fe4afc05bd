// The inner loops of the host's ops, once per instruction set (baseline, AVX2, AVX-512), chosen at run time.
//
// Stateless functions on memory of the caller; any thread. No pointer needs alignment beyond its element's.
// What an output element is depends on its own inputs alone, never on how many others are computed with it: sums
// run in one order, whatever the tile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/softmax_merge.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

struct DotsArgs {
  const void* a = nullptr;       // [m, k] of a_dtype
  std::int64_t a_stride = 0;     // elements
  const std::byte* b = nullptr;  // [n, k] of b_dtype
  std::int64_t b_stride = 0;     // elements
  DType b_dtype = DType::float32;
  std::int64_t m = 0, n = 0, k = 0;
  float* c = nullptr;  // [m, n]
  std::int64_t c_stride = 0;
  bool accumulate = false;  // c += instead of c =
  // What the caller reads soon, of b's shape and strides, fetched into the caches meanwhile; or null. Made for few rows
  // of a, where memory binds and the processor's own fetching, which ends with every page, is not enough: the tile
  // then has all rows of a, and reads b once.
  const std::byte* next = nullptr;
  // What is fetched lies in one piece of n * k elements. For up to half the rows of a streaming tile: faster by a
  // third.
  bool next_in_one_piece = false;
  DType a_dtype = DType::float32;  // or bfloat16, where b is bfloat16 and the set has `multiplies_bfloat16`
};

struct WeightedSumArgs {
  const float* weight = nullptr;  // [m, k]
  std::int64_t weight_stride = 0;
  const float* rescale = nullptr;  // [m]
  const std::byte* v = nullptr;    // [k, n] of v_dtype
  std::int64_t v_stride = 0;       // elements
  DType v_dtype = DType::float32;
  std::int64_t m = 0, n = 0, k = 0;
  float* out = nullptr;  // [m, n]
  std::int64_t out_stride = 0;
};

/// Keys per block of the streaming softmax, in prefill and decode alike: their sums are of one order. A multiple of
/// every set's lanes.
inline constexpr std::int64_t kBlockKeys = 64;

/// A streaming softmax that has seen nothing: all scores may be minus infinity.
inline constexpr SoftmaxState kNothingSeen = {-__builtin_inff(), 0.0F};

struct HostKernels {
  const char* name;
  std::int64_t panel_rows;                            // rows of b that `dots` handles at a time
  std::int64_t (*stream_panel_rows)(std::int64_t m);  // the same where `next` is given, by rows of a
  /// `dots` takes bfloat16 on both sides: products of pairs in the processor's own instruction, which takes and makes
  /// zeros for subnormal numbers; sums are float32.
  bool multiplies_bfloat16;

  void (*to_float)(const std::byte* from, DType dtype, float* to, std::int64_t count);
  void (*from_float)(const float* from, std::byte* to, DType dtype, std::int64_t count);
  /// c[i, j] (+)= sum over k of a[i, k] * b[j, k]
  void (*dots)(const DotsArgs& args);
  /// out[i, :] = out[i, :] * rescale[i] + sum over k of weight[i, k] * v[k, :]
  void (*weighted_sum)(const WeightedSumArgs& args);
  /// Takes `count` more scores into the softmax (kNothingSeen at first): score[j] becomes exp(scale * score[j] - new
  /// largest). Returns the factor by which sums made so far shrink. `score` has room up to a multiple of 16.
  float (*softmax_step)(float* score, std::int64_t count, float scale, SoftmaxState* state);
  /// out = (x - mean) / sqrt(variance + epsilon) [* gamma] [+ beta]; out may be x.
  void (*normalize)(const float* x, std::int64_t count, const float* gamma, const float* beta, float epsilon,
                    float* out);
  /// out = x + y; out may be either.
  void (*add)(const float* x, const float* y, float* out, std::int64_t count);
  /// Index of the first largest element; -1 when there is a NaN.
  std::int64_t (*argmax)(const float* x, std::int64_t count);
  /// Elements first_index .. of the random stream `seed`, uniform in +-scale.
  void (*random)(float* to, std::int64_t count, float scale, std::uint64_t seed, std::uint64_t first_index);
};

extern const HostKernels baseline_kernels;
#if defined(__x86_64__)
extern const HostKernels avx2_kernels;
extern const HostKernels avx512_kernels;
extern const HostKernels avx512_bf16_kernels;
#endif

/// The fastest set that this processor runs.
const HostKernels& host_kernels();
/// All sets that this processor runs, the baseline first; ends with a null pointer.
const HostKernels* const* supported_host_kernels();

}  // namespace flexgen

// The inner loops on memory in its stored form, once per instruction set (baseline, AVX2, AVX-512, and that with
// VNNI), chosen at run time:
// encoding and decoding groups of codes, and attention of one query per head on keys and values where they lie.
//
// Stateless functions on memory of the caller; any thread. No pointer needs alignment beyond its element's. What comes
// out for one head, or one group, depends on its own inputs alone, never on how many others are computed with it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

/// Keys, or values, of neighbouring heads: of one position in one piece, positions a stride apart. All in bytes.
struct StoredHeads {
  DType dtype = DType::float32;  // where not compressed
  QuantFormat quant = {};
  std::int64_t head_dim = 0;
  std::int64_t num_heads = 0;
  std::int64_t head_stride = 0;
  std::int64_t parameter_stride = 0;  // from one head's parameters to the next one's
  std::int64_t position_stride = 0;
};

/// Where the first of some positions begins.
struct StoredPlace {
  const std::byte* data = nullptr;
  const std::byte* parameters = nullptr;  // null where not compressed
};

struct StoredKernels {
  const char* name;

  /// from [count] to codes and parameters, as quantize.hpp says; the bits are those of the reference.
  bool (*encode)(const float* from, std::int64_t count, const QuantFormat& format, int refinements, std::byte* codes,
                 std::byte* parameters);
  /// The other way round, rounding once.
  void (*decode)(const std::byte* codes, const std::byte* parameters, const QuantFormat& format, std::int64_t count,
                 DType dtype, std::byte* to);

  /// Floats that a head's query, or its sums, take in the order that suits the stored form.
  std::int64_t (*arranged_floats)(const StoredHeads& heads);
  void (*arrange_query)(const StoredHeads& heads, const float* q, float* arranged);
  void (*collect_sums)(const StoredHeads& heads, const float* arranged, float* out);
  /// Floats of scratch that the two functions below need.
  std::int64_t (*scratch_floats)(const StoredHeads& heads);

  /// score[h * score_stride + p] = query h . key p, for all heads and `num_positions` positions. `next` is what will
  /// be read after that: its first positions are fetched into the caches meanwhile.
  void (*scores)(const StoredHeads& heads, const StoredPlace& keys, const StoredPlace& next, std::int64_t num_positions,
                 const float* queries, float* score, std::int64_t score_stride, float* scratch);
  /// sums[h] += sum over p of weight[h * weight_stride + p] * value p, positions in order.
  void (*add_values)(const StoredHeads& heads, const StoredPlace& values, const StoredPlace& next,
                     std::int64_t num_positions, const float* weight, std::int64_t weight_stride, float* sums,
                     float* scratch);
  /// The same for positions position[0 .. count) of a single head.
  void (*add_chosen_values)(const StoredHeads& heads, const StoredPlace& values, const std::int32_t* position,
                            std::int64_t count, const float* weight, float* sums, float* scratch);
};

extern const StoredKernels baseline_stored_kernels;
#if defined(__x86_64__)
extern const StoredKernels avx2_stored_kernels;
extern const StoredKernels avx512_stored_kernels;
extern const StoredKernels avx512_vnni_stored_kernels;
#endif

/// The fastest set that this processor runs.
const StoredKernels& stored_kernels();
/// All sets that this processor runs, the baseline first; ends with a null pointer.
const StoredKernels* const* supported_stored_kernels();

}  // namespace flexgen

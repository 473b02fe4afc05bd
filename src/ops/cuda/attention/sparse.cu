// Sparse attention of single tokens: all scores, then the values of the heaviest positions alone.
//
// One block per (row, head). A group of lanes holds one position, kVector elements per lane; the block's groups take
// neighbouring positions, each with several loads on their way. A head wider than a group comes in parts. In shared
// memory:
//
//   score   [length]  q . k of every position in sight, then its weight 2^(score - largest)
//   limit             the weight from which positions are chosen: radix select, ten bits at a time (Alabi et al. 2012);
//                     weights are positive, so their order is that of their bits
//   list              the chosen positions in order, of equal weights the lower ones; at most kListLength at a time
//   sum     [warps, elements of a group]  of weighted values: the groups take the list in turn
//
// All sums are in an order that depends on the row's length and layout alone. Each head finds out by itself whether
// whole vectors can be loaded; elsewhere lanes load elements (words of codes) one by one.
// Source of the method: FlexGen (Sheng et al. 2023), section 4.3.
#include <string>

#include "ops/cuda/attention/sparse.hpp"
#include "ops/cuda/attention/sparse_parts.cuh"

namespace flexgen {
namespace {

constexpr unsigned kAllLanes = 0xffffffffU;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kBlocks = 4;  // on a multiprocessor: the others read while one selects
constexpr int kDigitBits = 10;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kKeyBits = 30;  // of a weight: it is 1 at most
constexpr int kListLength = 2048;
static_assert(kKeyBits % kDigitBits == 0 && kDigits == 4 * kThreads, "a thread has four digits");

/// A digit of the limit: so many positions are above it, so many have it.
struct Digit {
  int digit;
  int above;
  int inside;
};

/// Which positions are chosen: keys from low + width on, and of those in [low, low + width) the first `ties`.
struct Limit {
  std::uint32_t low;
  std::uint32_t width;
  int ties;
};

/// Shared memory of a block before the weights.
template <typename Part>
struct alignas(16) Shared {
  union {  // one after the other
    std::uint32_t histogram[kDigits];
    std::uint16_t list[kListLength];
    float sum[kWarps][kWidth<Part>];
  };
  float q[kWidth<Part>];
  float largest[kWarps];
  float total[kWarps];  // of weights
  int counted[kWarps];
  int2 listed[kWarps];  // above the limit, and ties
  Digit digit;
};

/// Scores of all positions; returns the largest of those that this thread has written. `q_at`: of the head, in p.q.
template <typename Part, bool kVectors>
__device__ float score_positions(const SparseParams& p, const CacheSpan& span, VisibleRange seen, std::int64_t q_at,
                                 Shared<Part>& shared, float* score) {
  constexpr int kLanes = Part::kLanes;
  constexpr int kInFlight = kVectors ? Part::kInFlight : 1;
  constexpr int kGroups = kThreads / kLanes;
  const int length = seen.length();
  const int lane = threadIdx.x % kLanes;
  const int group = threadIdx.x / kLanes;
  float largest = kNoScore;
#pragma unroll 1
  for (int first = 0; first < p.head_dim; first += kWidth<Part>) {
    const int dim = first + lane * Part::kVector;
    const Part keys(p, span, seen.first, CachePart::keys, dim);
    const int end = keys.left > 0 ? length : 0;
    typename Part::Piece piece[kInFlight] = {};
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      if (group + u * kGroups < end) piece[u] = keys.template load<kVectors>(group + u * kGroups);
    }
    static_assert(kWidth<Part> <= kThreads, "one thread per dimension");
    const int d = threadIdx.x;       // within the width
    if (first > 0) __syncthreads();  // all have read the part of q before
    if (d < kWidth<Part>)
      shared.q[d] = first + d < p.head_dim ? read_element(p.q, p.dtype, q_at + first + d) * p.scale_log2 : 0.0F;
    __syncthreads();
    const QueryPart<Part::kVector> query(shared.q + lane * Part::kVector);
    largest = kNoScore;
#pragma unroll 1
    for (int tile = 0; tile < length; tile += kInFlight * kGroups) {
      float x[kInFlight];
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {  // past the end: something that nobody looks at
        x[u] = Part::dot(query, piece[u]);
        const int next = tile + group + (kInFlight + u) * kGroups;
        if (next < end) piece[u] = keys.template load<kVectors>(next);
      }
#pragma unroll
      for (int offset = kLanes / 2; offset > 0; offset /= 2) {
#pragma unroll
        for (int u = 0; u < kInFlight; ++u) x[u] += __shfl_xor_sync(kAllLanes, x[u], offset);
      }
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {
        const int position = tile + group + u * kGroups;
        if (lane != 0 || position >= length) continue;
        if (first > 0) x[u] += score[position];
        score[position] = x[u];
        largest = fmaxf(largest, x[u]);
      }
    }
  }
  return largest;
}

/// What weights are compared by; what is no number counts as the heaviest.
__device__ std::uint32_t key_of(float weight) { return min(__float_as_uint(weight), (1U << kKeyBits) - 1); }

/// The digit at which `wanted` positions are reached, from the largest digit down. Leaves the histogram empty.
template <typename Part>
__device__ Digit find_digit(Shared<Part>& shared, int wanted) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int last = kThreads - 1 - static_cast<int>(threadIdx.x);
  uint4& own = reinterpret_cast<uint4*>(shared.histogram)[last];
  const int count[4] = {static_cast<int>(own.w), static_cast<int>(own.z), static_cast<int>(own.y),
                        static_cast<int>(own.x)};
  own = make_uint4(0, 0, 0, 0);
  const int mine = count[0] + count[1] + count[2] + count[3];
  int through = mine;  // the warp's, as far as this lane
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int earlier = __shfl_up_sync(kAllLanes, through, offset);
    if (lane >= offset) through += earlier;
  }
  if (lane == 31) shared.counted[warp] = through;
  __syncthreads();
  int above = through - mine;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) above += w < warp ? shared.counted[w] : 0;
  if (above < wanted && wanted <= above + mine) {  // true of one thread
    Digit found{4 * last + 3, above, count[0]};
#pragma unroll
    for (int i = 1; i < 4; ++i) {
      if (found.above + found.inside < wanted) found = {4 * last + 3 - i, found.above + found.inside, count[i]};
    }
    shared.digit = found;
  }
  __syncthreads();
  return shared.digit;
}

/// The limit of the `chosen` heaviest of weight[0 .. count). Needs the histogram of all first digits where 0 < chosen <
/// count.
template <typename Part>
__device__ Limit find_limit(const float* weight, int count, int chosen, Shared<Part>& shared) {
  if (chosen <= 0) return {1U << kKeyBits, 0, 0};
  if (chosen >= count) return {0, 0, 0};
  Limit limit{0, 1U << kKeyBits, chosen};
#pragma unroll 1
  for (int shift = kKeyBits - kDigitBits;; shift -= kDigitBits) {
    const Digit found = find_digit(shared, limit.ties);
    limit.low |= static_cast<std::uint32_t>(found.digit) << shift;
    limit.width = 1U << shift;
    limit.ties -= found.above;
    if (shift == 0 || found.inside == limit.ties) return limit;
#pragma unroll 1
    for (int position = threadIdx.x; position < count; position += kThreads) {
      const std::uint32_t key = key_of(weight[position]);
      if (key - limit.low < limit.width) atomicAdd(&shared.histogram[key >> (shift - kDigitBits) & (kDigits - 1)], 1U);
    }
    __syncthreads();
  }
}

/// Lists those of the chosen positions that are number `from` to `from` + kListLength - 1 of all; the last position is
/// always one of them. Whoever used the list's memory is done when it has begun.
template <typename Part>
__device__ void list_positions(const float* weight, int length, const Limit& limit, int from, Shared<Part>& shared) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int share = (length + kThreads - 1) / kThreads * 32;  // of a warp: positions that follow each other
  const int begin = warp * share;
  const int end = min(length, begin + share);
  const auto classify = [&](int position, bool& above, bool& tie) {
    const std::uint32_t key = position < length - 1 ? key_of(weight[position]) : 0;
    above = position < length - 1 ? key >= limit.low + limit.width : position == length - 1;
    tie = position < length - 1 && key - limit.low < limit.width;
  };
  bool above, tie;
  int2 count = make_int2(0, 0);
#pragma unroll 1
  for (int first = begin; first < end; first += 32) {
    classify(first + lane, above, tie);
    count.x += __popc(__ballot_sync(kAllLanes, above));
    count.y += __popc(__ballot_sync(kAllLanes, tie));
  }
  if (lane == 0) shared.listed[warp] = count;
  __syncthreads();
  int entry = -from;
  int ties = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const int2 other = shared.listed[w];
    if (w < warp) entry += other.x, ties += other.y;
  }
  entry += min(ties, limit.ties);
  const unsigned lower_lanes = (1U << lane) - 1;
#pragma unroll 1
  for (int first = begin; first < end; first += 32) {
    classify(first + lane, above, tie);
    const unsigned tied = __ballot_sync(kAllLanes, tie);
    const bool chosen = above || (tie && ties + __popc(tied & lower_lanes) < limit.ties);
    const unsigned all_chosen = __ballot_sync(kAllLanes, chosen);
    const int own = entry + __popc(all_chosen & lower_lanes);
    if (chosen && own >= 0 && own < kListLength) shared.list[own] = static_cast<std::uint16_t>(first + lane);
    entry += __popc(all_chosen);
    ties += __popc(tied);
  }
  __syncthreads();
}

/// Adds the values of the first `count` listed positions to this lane's sums.
template <typename Part, bool kVectors>
__device__ void add_values(const Part& values, const std::uint16_t* list, int count, const float* weight,
                           float (&sum)[Part::kVector]) {
  constexpr int kInFlight = kVectors ? Part::kInFlight : 1;
  constexpr int kGroups = kThreads / Part::kLanes;
#pragma unroll 1
  for (int entry = threadIdx.x / Part::kLanes; entry < count; entry += kInFlight * kGroups) {
    typename Part::Piece piece[kInFlight] = {};
    float share[kInFlight] = {};
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      if (entry + u * kGroups >= count) continue;
      const int position = list[entry + u * kGroups];
      share[u] = weight[position];
      if (values.left > 0) piece[u] = values.template load<kVectors>(position);
    }
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) Part::add(share[u], piece[u], sum);
  }
}

/// `listed`: chosen positions, the new one included. `out_at`: of the head, in p.out.
template <typename Part>
__device__ void attend_values(const SparseParams& p, const CacheSpan& span, bool vectors, VisibleRange seen,
                              const float* weight, const Limit& limit, int listed, Shared<Part>& shared,
                              std::int64_t out_at) {
  constexpr int kLanes = Part::kLanes;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int first = 0; first < p.head_dim; first += kWidth<Part>) {
    const Part values(p, span, seen.first, CachePart::values, first + lane % kLanes * Part::kVector);
    float sum[Part::kVector] = {};
#pragma unroll 1
    for (int from = 0; from < listed; from += kListLength) {
      list_positions(weight, seen.length(), limit, from, shared);
      const int count = min(kListLength, listed - from);
      if (vectors) {
        add_values<Part, true>(values, shared.list, count, weight, sum);
      } else {
        add_values<Part, false>(values, shared.list, count, weight, sum);
      }
    }
#pragma unroll
    for (int offset = kLanes; offset < 32; offset *= 2) {
#pragma unroll
      for (int i = 0; i < Part::kVector; ++i) sum[i] += __shfl_xor_sync(kAllLanes, sum[i], offset);
    }
    __syncthreads();  // all have done with the list
    if (lane < kLanes) {
#pragma unroll
      for (int i = 0; i < Part::kVector; ++i) shared.sum[warp][lane * Part::kVector + i] = sum[i];
    }
    __syncthreads();
    const int d = threadIdx.x;
    if (d < kWidth<Part> && first + d < p.head_dim) {
      float total = 0.0F, value = 0.0F;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += shared.total[w], value += shared.sum[w][d];
      write_element(p.out, p.dtype, out_at + first + d, value / total);
    }
  }
}

/// Grid (rows * heads), kThreads threads.
template <typename Part>
__global__ void __launch_bounds__(kThreads, kBlocks) sparse_kernel(const SparseParams p) {
  extern __shared__ uint4 sparse_shared[];
  auto& shared = *reinterpret_cast<Shared<Part>*>(sparse_shared);
  float* weight = reinterpret_cast<float*>(&shared + 1);  // [length], scores at first

  start_dependents_after_predecessor();
  const int row = blockIdx.x / p.num_heads;
  const int head = blockIdx.x % p.num_heads;
  const RowTokens tokens = row_tokens(p.token_offset, p.start, row);
  const CacheSpan span = span_of_query_head(p.heads, p.num_heads, row, head, tokens);
  if (!tokens.is_decode()) return;
  const int token = tokens.first_token;
  const VisibleRange seen = visible_range(tokens.start);
  const int length = seen.length();
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const std::int64_t head_at = static_cast<std::int64_t>(head) * p.head_dim;
  reinterpret_cast<uint4*>(shared.histogram)[threadIdx.x] = make_uint4(0, 0, 0, 0);

  const bool vectors = Part::vectors_fit(p, span.head);  // the same in all threads
  const std::int64_t q_at = token * p.q_stride + head_at;
  float largest = vectors ? score_positions<Part, true>(p, span, seen, q_at, shared, weight)
                          : score_positions<Part, false>(p, span, seen, q_at, shared, weight);
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, offset));
  if (lane == 0) shared.largest[warp] = largest;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, shared.largest[w]);

  const int chosen = num_chosen_positions(p.sparsity, seen);
  float total = 0.0F;
#pragma unroll 1
  for (int position = threadIdx.x; position < length; position += kThreads) {
    const float share = exp2_fast(weight[position] - largest);
    weight[position] = share;
    total += share;
    if (position < length - 1) atomicAdd(&shared.histogram[key_of(share) >> (kKeyBits - kDigitBits)], 1U);
  }
  total = warp_sum(total);
  if (lane == 0) shared.total[warp] = total;
  __syncthreads();

  const Limit limit = find_limit(weight, length - 1, chosen, shared);
  attend_values(p, span, vectors, seen, weight, limit, chosen + 1, shared, token * p.out_stride + head_at);
}

template <typename Part>
void launch(const OpContext& context, const SparseParams& p, int longest) {
  auto* kernel = sparse_kernel<Part>;
  const int most = max_shared_bytes(context.device);
  static OncePerDevice allow;
  allow(context.device,
        [&] { FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most)); });
  static_assert(sizeof(Shared<Part>) + 14000 * sizeof(float) <= 64 << 10, "documented: 14,000 positions on every GPU");
  const std::uint64_t bytes = sizeof(Shared<Part>) + static_cast<std::uint64_t>(longest) * sizeof(float);
  if (bytes > static_cast<std::uint64_t>(most))
    throw UserError(ExitCode::does_not_fit,
                    "sparse attention cannot take a row of " + std::to_string(longest) + " positions",
                    "their weights do not fit in the GPU's shared memory", "use --attn-sparsity 1");
  launch_dependent(context, kernel, grid_extent(static_cast<std::int64_t>(p.num_rows) * p.num_heads), kThreads, p,
                   "launch of sparse_kernel", bytes);
}

template <int kBits>
void launch_compressed(const OpContext& context, const SparseParams& p, int longest) {
  if (p.head_dim <= 64) launch<CompressedPart<kBits, 4>>(context, p, longest);
  else launch<CompressedPart<kBits, 8>>(context, p, longest);
}

template <typename T>
void launch_plain(const OpContext& context, const SparseParams& p, int longest) {
  const int lanes = p.head_dim / kVectorElements<T>;
  if (lanes <= 8) launch<PlainPart<T, 8>>(context, p, longest);
  else if (lanes <= 16) launch<PlainPart<T, 16>>(context, p, longest);
  else launch<PlainPart<T, 32>>(context, p, longest);
}

}  // namespace

void attend_sparsely(const OpContext& context, const DecodeParams& decode, DType dtype, float sparsity, int longest) {
  const SparseParams p{decode, sparsity, dtype};
  if (p.bits == 4) return launch_compressed<4>(context, p, longest);
  if (p.bits == 8) return launch_compressed<8>(context, p, longest);
  with_element_type(dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    launch_plain<T>(context, p, longest);
  });
}

}  // namespace flexgen

// sample_rows on the GPU: one block per row of logits.
//
// Nothing is sorted. Where the order by likelihood is cut is searched by two bits of the logits' order at a time, with
// sums over the whole row; these are of whole numbers, so that the threads' order does not show.
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_launch.cuh"
#include "ops/cuda/sampling_block.cuh"
#include "ops/sampling_draw.hpp"

namespace flexgen {
namespace {

constexpr int kThreads = kSamplingThreads;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffU;

using Mass = unsigned long long;

/// order_key as an unsigned number: two bits of it at a time tell where a logit stands.
__device__ std::uint32_t order_bits(float logit) { return static_cast<std::uint32_t>(order_key(logit)) ^ 0x80000000U; }

/// Tokens in front of the cut: those of larger bits, and of equal ones those up to `last`.
struct Cut {
  std::uint32_t bits = 0;
  int last = INT_MAX;

  __device__ bool keeps(std::uint32_t other_bits, int token) const {
    return other_bits > bits || (other_bits == bits && token <= last);
  }
};

__device__ Mass warp_sum(Mass x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}

/// The sums of kCount numbers over the block.
template <int kCount>
__device__ void block_sums(Mass (&x)[kCount]) {
  __shared__ Mass part[kCount][kWarps];
  for (int c = 0; c < kCount; ++c) {
    x[c] = warp_sum(x[c]);
    if (threadIdx.x % 32 == 0) part[c][threadIdx.x / 32] = x[c];
  }
  __syncthreads();
  for (int c = 0; c < kCount; ++c) x[c] = warp_sum(part[c][threadIdx.x % 32]);
  __syncthreads();
}

/// Runs body(token) for the block's tokens, each on one thread.
template <class Body>
__device__ void for_tokens(int vocab, const Body& body) {
  for (int i = threadIdx.x; i < vocab; i += kThreads) body(i);
}

/// The first token whose mass is together with that of all lower ids more than place(mass of all), which is less than
/// that of all. mass(token) -> Mass.
template <class MassOf, class Place>
__device__ int find_token(int vocab, const MassOf& mass, const Place& place) {
  __shared__ Mass warp_mass[kWarps];
  __shared__ int found;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int share = (vocab + kThreads - 1) / kThreads * 32;  // of a warp: neighbours, so that the order is that of ids
  const int first = warp * share, end = min(vocab, first + share);
  Mass sum = 0;
  for (int i = first + lane; i < end; i += 32) sum += mass(i);
  sum = warp_sum(sum);
  if (lane == 0) warp_mass[warp] = sum;
  __syncthreads();
  Mass left = place(warp_sum(warp_mass[lane]));
  int finder = 0;
  for (; warp_mass[finder] <= left; ++finder) left -= warp_mass[finder];
  if (warp == finder) {
    for (int i = first + lane;; i += 32) {
      Mass before = i < end ? mass(i) : 0;  // and itself
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const Mass other = __shfl_up_sync(kAllLanes, before, offset);
        if (lane >= offset) before += other;
      }
      const unsigned passed = __ballot_sync(kAllLanes, before > left);
      if (passed != 0) {
        if (lane == __ffs(static_cast<int>(passed)) - 1) found = i;
        break;
      }
      left -= __shfl_sync(kAllLanes, before, 31);
    }
  }
  __syncthreads();
  const int token = found;
  __syncthreads();
  return token;
}

/// In front of the cut are the likeliest tokens, as few as together have a mass of `wanted`; all together have that
/// much. Tokens of equal logits have equal mass.
template <class MassOf>
__device__ Cut find_cut(const float* logit, int vocab, Mass wanted, const MassOf& mass) {
  Cut cut;
  for (int shift = 30; shift >= 0; shift -= 2) {
    Mass sum[3] = {0, 0, 0};  // of tokens whose bits are no less than cut.bits with 1, 2, 3 here
    for_tokens(vocab, [&](int i) {
      const std::uint32_t bits = order_bits(logit[i]);
      if (bits < cut.bits + (1U << shift)) return;
      const Mass one = mass(i);
      sum[0] += one;
      if (bits >= cut.bits + (2U << shift)) sum[1] += one;
      if (bits >= cut.bits + (3U << shift)) sum[2] += one;
    });
    block_sums(sum);
    const std::uint32_t digit = sum[2] >= wanted ? 3 : sum[1] >= wanted ? 2 : sum[0] >= wanted ? 1 : 0;
    cut.bits += digit << shift;
  }
  Mass above[1] = {0};
  for_tokens(vocab, [&](int i) {
    if (order_bits(logit[i]) > cut.bits) above[0] += mass(i);
  });
  block_sums(above);
  cut.last = find_token(
      vocab, [&](int i) { return order_bits(logit[i]) == cut.bits ? mass(i) : Mass{0}; },
      [&](Mass) { return wanted - above[0] - 1; });
  return cut;
}

/// largest: the largest logit, which is finite.
__device__ int draw(const float* logit, int vocab, float largest, const SampleRow& row) {
  Cut cut;
  if (row.top_k > 0 && row.top_k < vocab)
    cut = find_cut(logit, vocab, static_cast<Mass>(row.top_k), [](int) { return Mass{1}; });
  const auto weight = [&](int i) { return token_weight(logit[i], largest, row.temperature); };
  if (row.top_p < 1.0F) {
    Mass total[1] = {0};
    for_tokens(vocab, [&](int i) {
      if (cut.keeps(order_bits(logit[i]), i)) total[0] += whole_weight(weight(i));
    });
    block_sums(total);
    cut = find_cut(logit, vocab, nucleus_weight(row.top_p, total[0]),
                   [&](int i) -> Mass { return whole_weight(weight(i)); });
  }
  return find_token(
      vocab,
      [&](int i) -> Mass {
        if (!cut.keeps(order_bits(logit[i]), i)) return 0;
        const float one = weight(i);
        return one >= row.min_p ? whole_weight(one) : 0;
      },
      [&](Mass total) -> Mass { return draw_below(total, row.seed, row.draw); });
}

__device__ Best best_of_row(const float* logit, int vocab) {
  Best best;
  for_tokens(vocab, [&](int i) { best.take(logit[i], i); });
  return block_best(best);
}

__device__ int choose(float* logit, int vocab, const SampleRow& row, TokenAdjustment* adjustment) {
  for (int i = threadIdx.x; i < row.num_adjustments; i += kThreads) {
    float& own = logit[adjustment[i].token];
    adjustment[i].own_logit = own;
    own = adjusted(own, row, adjustment[i]);
  }
  __syncthreads();
  const Best best = best_of_row(logit, vocab);
  int token = best.is_number() ? best.index : -1;
  if (token >= 0 && row.temperature > 0.0F && best.logit != -INFINITY) token = draw(logit, vocab, best.logit, row);
  __syncthreads();
  for (int i = threadIdx.x; i < row.num_adjustments; i += kThreads)
    logit[adjustment[i].token] = adjustment[i].own_logit;
  __syncthreads();
  return token;
}

/// The likeliest `count` tokens in their order, by as many passes.
__device__ void write_alternatives(const SampleRowsArgs& args, const float* logit, int vocab, int count,
                                   const LogSoftmax& log_probability) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * args.max_top;
  Best before{INFINITY, -1};
  for (int t = 0; t < args.max_top; ++t) {
    Best next;
    if (t < count) {
      for_tokens(vocab, [&](int i) {
        if (logit[i] < before.logit || (logit[i] == before.logit && i > before.index)) next.take(logit[i], i);
      });
      next = block_best(next);
    }
    const bool is_there = next.index != INT_MAX;
    if (threadIdx.x == 0) {
      args.top_token[first + t] = is_there ? next.index : -1;
      args.top_log_probability[first + t] = is_there ? log_probability(next.logit) : 0.0F;
    }
    before = next;
  }
}

/// logits [rows, vocab] float32 -> token, log_probability [rows], alternatives [rows, max_top].
__global__ void __launch_bounds__(kThreads) sample_rows_kernel(SampleRowsArgs args, int vocab) {
  __shared__ float scratch[32];
  const SampleRow row = args.row[blockIdx.x];
  float* logit = reinterpret_cast<float*>(args.logits.data) + blockIdx.x * args.logits.row_stride;
  const bool is_number = best_of_row(logit, vocab).is_number();
  int token = -1;
  if (is_number)
    token = row.given_token >= 0 ? row.given_token : choose(logit, vocab, row, args.adjustment + row.first_adjustment);
  if (threadIdx.x == 0) args.token[blockIdx.x] = token;
  if (args.log_probability == nullptr) return;

  const LogSoftmax log_probability = is_number ? block_log_softmax(logit, vocab, scratch) : LogSoftmax{0.0F, 0.0F};
  if (threadIdx.x == 0) args.log_probability[blockIdx.x] = token >= 0 ? log_probability(logit[token]) : 0.0F;
  write_alternatives(args, logit, vocab, is_number ? row.num_top : 0, log_probability);
}

}  // namespace

void sample_rows_cuda(const OpContext& context, const SampleRowsArgs& args) {
  sample_rows_kernel<<<grid_extent(args.logits.rows), kThreads, 0, stream_of(context)>>>(
      args, static_cast<int>(args.logits.cols));
  check_launch("launch of sample_rows_kernel");
}

}  // namespace flexgen

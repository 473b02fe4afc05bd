#include "gpu_timing.hpp"

#include <algorithm>
#include <optional>

#include "ops/attention.hpp"
#include "ops/cache_span.hpp"
#include "ops/elementwise.hpp"
#include "ops/linear.hpp"

namespace flexgen::gpu {
namespace {

std::uint64_t workspace_bytes() {  // for all that these programs call
  return linear_workspace_bytes(kGpu) + linear_compressed_workspace_bytes(kGpu) +
         attention_workspace_bytes(kGpu, {128, 56, 128, 2048, kHalf, {8, 64}});
}

/// Overwrites device memory with random float16 numbers, which are small and finite in any dtype: equal ones would make
/// the search for a group's range, or for the largest weights, too easy. The piece that is repeated has an odd number
/// of elements, so that no two positions of a cache are equal.
void randomise(std::byte* data, std::int64_t bytes) {
  static const std::vector<std::byte> piece = [] {
    constexpr std::uint64_t count = (1 << 19) - 1;
    std::vector<std::byte> made(2 * count);
    fill_random(made.data(), kHalf, count, 0.1F, 1, 0);
    return made;
  }();
  const auto most = static_cast<std::int64_t>(piece.size());
  for (std::int64_t at = 0; at < bytes; at += most)
    FLEXGEN_CUDA_CALL(cudaMemcpy(data + at, piece.data(), std::min(most, bytes - at), cudaMemcpyHostToDevice));
  FLEXGEN_CUDA_CALL(cudaDeviceSynchronize());
}

Buffer randomised(std::int64_t bytes) {
  Buffer buffer(MemoryKind::device, bytes, kGpu);
  randomise(buffer.data(), bytes);
  return buffer;
}

void gpu_copy(benchmark::State& state) {
  const std::int64_t bytes = 1 << 30;
  const Buffer from = filled(bytes), to = filled(bytes);
  time_calls(state, 2.0 * bytes, 0, "", [&](int) {
    FLEXGEN_CUDA_CALL(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, gpu().stream));
  });
}

void gpu_product(benchmark::State& state) {
  const std::int64_t n = 8192;
  const Buffer a = filled(2 * n * n), b = filled(2 * n * n), c = filled(2 * n * n);
  const LinearArgs args{half_matrix(a, n, n), half_matrix(b, n, n), std::nullopt,
                        Activation::none,     std::nullopt,         half_matrix(c, n, n)};
  time_calls(state, 0, static_cast<double>(n) * n * n, "", [&](int) { linear(gpu().context, args); });
}

BENCHMARK(gpu_copy)->Apply(timed);
BENCHMARK(gpu_product)->Apply(timed);

}  // namespace

Gpu::Gpu() {
  use_device(kGpu);
  FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&other_stream, cudaStreamNonBlocking));
  scratch = Buffer(MemoryKind::device, workspace_bytes(), kGpu);
  workspace = Workspace(scratch.data(), scratch.size_bytes());
  context.device = kGpu;
  context.stream = stream;
  context.workspace = &workspace;
}

Gpu& gpu() {
  static Gpu* const one = new Gpu;
  return *one;
}

Buffer filled(std::int64_t bytes) {
  Buffer buffer(MemoryKind::device, bytes, kGpu);
  FLEXGEN_CUDA_CALL(cudaMemset(buffer.data(), 0x11, bytes));
  FLEXGEN_CUDA_CALL(cudaDeviceSynchronize());
  return buffer;
}

Matrices::Matrices(std::int64_t rows, std::int64_t cols, const QuantFormat& quant)
    : view_(contiguous_view(nullptr, rows, cols, kHalf, quant)),
      count_(static_cast<int>(kBeyondCache / view_.size_bytes() + 1)),
      memory_(filled(view_.size_bytes() * count_)) {}

MatrixView Matrices::at(int i) const {
  MatrixView view = view_;
  view.data = memory_.data() + i % count_ * view_.size_bytes();
  return view;
}

AttentionSetup attention_setup(const benchmark::State& state, const QuantFormat& quant) {
  const auto argument = [&](std::size_t i) { return static_cast<std::int32_t>(state.range(i)); };
  return {argument(0), {argument(1), argument(2)}, argument(3), argument(4), quant};
}

const AttentionCases& attention_cases(const AttentionSetup& setup) {
  static auto* const made_for = new std::optional<AttentionSetup>;
  static auto* const cases = new AttentionCases;  // never destroyed, as gpu() is not
  if (*made_for == setup) return *cases;
  made_for->reset();
  cases->clear();
  const std::vector<RowShape> rows(setup.rows, setup.shape);
  for (double total = 0.0; total < kBeyondCache; total += cases->back()->cache_bytes()) {
    cases->push_back(
        std::make_unique<AttentionCase>(rows, setup.heads, setup.head_dim, setup.dtype, 1, 0, setup.quant));
    const Twin& memory = cases->back()->cache_memory();
    randomise(memory.device(), memory.size_bytes());
  }
  *made_for = setup;
  return *cases;
}

void time_linear(benchmark::State& state, std::int64_t tokens, std::int64_t outputs, std::int64_t inputs,
                 const QuantFormat& quant) {
  const Matrices weights(outputs, inputs, quant);
  const Buffer bias = filled(2 * outputs), x = filled(2 * tokens * inputs), y = filled(2 * tokens * outputs);
  time_calls(state, weights.bytes(), static_cast<double>(tokens * outputs * inputs), kMemoryAndTensorCores, [&](int i) {
    linear(gpu().context, {half_matrix(x, tokens, inputs), weights.at(i), half_matrix(bias, 1, outputs),
                           Activation::none, std::nullopt, half_matrix(y, tokens, outputs)});
  });
}

void time_attention(benchmark::State& state, const AttentionSetup& setup, float sparsity) {
  const AttentionCases& cases = attention_cases(setup);
  const std::int64_t tokens = cases[0]->num_tokens(), cols = cases[0]->cols();
  const Buffer q = randomised(2 * tokens * cols), out = filled(2 * tokens * cols);
  const VisibleRange seen = visible_range(setup.shape.start);
  const double values = static_cast<double>(num_chosen_positions(sparsity, seen) + 1) / seen.length();
  const double part = (1.0 + values) / 2.0;  // all keys, and of values those of the chosen positions and the new one
  time_calls(
      state, part * cases[0]->cache_bytes(), part * cases[0]->operations() / 2, kMemoryAndTensorCores, [&](int i) {
        AttentionCase& work = *cases[i % cases.size()];
        AttentionArgs args{work.batch(Side::device), contiguous_view(q.data(), tokens, cols, setup.dtype),
                           work.cache(Side::device), 0.1F, contiguous_view(out.data(), tokens, cols, setup.dtype)};
        args.sparsity = sparsity;
        attention(gpu().context, args);
      });
}

void time_append_kv(benchmark::State& state, const AttentionSetup& setup) {
  const AttentionCases& cases = attention_cases(setup);
  const std::int64_t tokens = cases[0]->num_tokens(), cols = cases[0]->cols();
  const Buffer qkv = randomised(6 * tokens * cols);
  const MatrixView all = contiguous_view(qkv.data(), tokens, 3 * cols, setup.dtype);
  const double written = cases[0]->cache_bytes() * setup.shape.count / (setup.shape.start + setup.shape.count);
  time_calls(state, 4.0 * static_cast<double>(tokens * cols) + written, 0, kMemory, [&](int i) {
    AttentionCase& work = *cases[i % cases.size()];
    append_kv(gpu().context, work.batch(Side::device), all.col_range(cols, cols), all.col_range(2 * cols, cols),
              work.cache(Side::device));
  });
}

}  // namespace flexgen::gpu

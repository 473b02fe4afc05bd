// The GPU's ops on plain matrices and caches, and its links, beside the ceilings of gpu_timing.hpp. Shapes are those of
// OPT-6.7B (hidden 4096, 32 heads) and OPT-30B (hidden 7168, 56 heads).
#include "gpu_timing.hpp"
#include "ops/attention.hpp"
#include "ops/embedding.hpp"
#include "ops/layer_norm.hpp"
#include "ops/linear.hpp"
#include "ops/sampling.hpp"

namespace flexgen::gpu {
namespace {

// ---- links --------------------------------------------------------------------------------------------------------

enum class Direction { to_gpu, to_host, both };

/// Pinned memory; `both` counts the bytes of the two directions.
void link(benchmark::State& state, Direction direction) {
  const std::uint64_t bytes = 256 << 20;
  Buffer host_out(MemoryKind::pinned, bytes, kGpu), host_in(MemoryKind::pinned, bytes, kGpu);
  std::memset(host_out.data(), 1, bytes);
  std::memset(host_in.data(), 1, bytes);
  const Buffer first = filled(bytes), second = filled(bytes);
  const Event begun, other_done;
  const bool both = direction == Direction::both;
  time_calls(state, both ? 2.0 * bytes : 1.0 * bytes, 0, "", [&](int) {
    if (both) {  // the other direction runs beside, and this stream waits for it
      FLEXGEN_CUDA_CALL(cudaEventRecord(begun.handle, gpu().stream));
      FLEXGEN_CUDA_CALL(cudaStreamWaitEvent(gpu().other_stream, begun.handle, 0));
      FLEXGEN_CUDA_CALL(
          cudaMemcpyAsync(host_in.data(), second.data(), bytes, cudaMemcpyDeviceToHost, gpu().other_stream));
      FLEXGEN_CUDA_CALL(cudaEventRecord(other_done.handle, gpu().other_stream));
    }
    if (direction != Direction::to_host) {
      FLEXGEN_CUDA_CALL(cudaMemcpyAsync(first.data(), host_out.data(), bytes, cudaMemcpyHostToDevice, gpu().stream));
    } else {
      FLEXGEN_CUDA_CALL(cudaMemcpyAsync(host_in.data(), second.data(), bytes, cudaMemcpyDeviceToHost, gpu().stream));
    }
    if (both) FLEXGEN_CUDA_CALL(cudaStreamWaitEvent(gpu().stream, other_done.handle, 0));
  });
}

// ---- ops ----------------------------------------------------------------------------------------------------------

/// Arguments: tokens, outputs, inputs.
void linear_op(benchmark::State& state) { time_linear(state, state.range(0), state.range(1), state.range(2)); }

/// Arguments: those of attention_setup.
void attention_op(benchmark::State& state) { time_attention(state, attention_setup(state)); }
void append_kv_op(benchmark::State& state) { time_append_kv(state, attention_setup(state)); }

/// A decoder layer in a decode step, its ops one behind the other. Arguments: rows, positions before the new token,
/// hidden. Bytes: weights and cache.
void layer_op(benchmark::State& state) {
  const std::int64_t rows = state.range(0), hidden = state.range(2);
  AttentionCase& work = *attention_cases({static_cast<int>(rows),
                                          {static_cast<std::int32_t>(state.range(1)), 1},
                                          static_cast<int>(hidden / 128),
                                          128,
                                          {}})[0];
  const Buffer weights = filled(24 * hidden * hidden);  // beyond the GPU's cache, so that one layer is enough
  std::byte* next = weights.data();
  const auto weight = [&](std::int64_t outputs, std::int64_t inputs) {
    const MatrixView view = contiguous_view(next, outputs, inputs, kHalf);
    next += view.size_bytes();
    return view;
  };
  const MatrixView qkv = weight(3 * hidden, hidden), proj = weight(hidden, hidden);
  const MatrixView fc1 = weight(4 * hidden, hidden), fc2 = weight(hidden, 4 * hidden);
  const Buffer small = filled(8 * hidden), x_memory = filled(2 * rows * hidden), y_memory = filled(2 * rows * hidden);
  const Buffer mixed_memory = filled(6 * rows * hidden), inner_memory = filled(8 * rows * hidden);
  const MatrixView bias = half_matrix(small, 1, 4 * hidden), gamma = bias.col_range(0, hidden);
  const MatrixView x = half_matrix(x_memory, rows, hidden), y = half_matrix(y_memory, rows, hidden);
  const MatrixView mixed = half_matrix(mixed_memory, rows, 3 * hidden);
  const MatrixView inner = half_matrix(inner_memory, rows, 4 * hidden);
  const OpContext& context = gpu().context;
  const auto product = [&](const MatrixView& from, const MatrixView& w, Activation activation, const MatrixView& to) {
    linear(context, {from, w, bias.col_range(0, w.rows), activation, std::nullopt, to});
  };
  const auto add_product = [&](const MatrixView& from, const MatrixView& w) {
    linear(context, {from, w, bias.col_range(0, w.rows), Activation::none, x, x});
  };
  const double multiply_adds = static_cast<double>(12 * hidden * hidden * rows) + work.operations() / 2;
  time_calls(
      state, static_cast<double>(weights.size_bytes()) + work.cache_bytes(), multiply_adds, kMemoryAndTensorCores,
      [&](int) {
        layer_norm(context, {x, gamma, gamma, 1e-5F, y});
        product(y, qkv, Activation::none, mixed);
        append_kv(context, work.batch(Side::device), mixed.col_range(hidden, hidden),
                  mixed.col_range(2 * hidden, hidden), work.cache(Side::device));
        attention(context, {work.batch(Side::device), mixed.col_range(0, hidden), work.cache(Side::device), 0.1F, y});
        add_product(y, proj);
        layer_norm(context, {x, gamma, gamma, 1e-5F, y});
        product(y, fc1, Activation::relu, inner);
        add_product(inner, fc2);
      });
}

/// Arguments: tokens, hidden.
void layer_norm_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1);
  const Buffer x = filled(2 * tokens * hidden), y = filled(2 * tokens * hidden), affine = filled(2 * hidden);
  const MatrixView gamma = half_matrix(affine, 1, hidden);
  const LayerNormArgs args{half_matrix(x, tokens, hidden), gamma, gamma, 1e-5F, half_matrix(y, tokens, hidden)};
  time_calls(state, 4.0 * static_cast<double>(tokens * hidden), 0, kMemory,
             [&](int) { layer_norm(gpu().context, args); });
}

/// Arguments: tokens, hidden; of a vocabulary of 50272.
void gather_rows_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1), vocabulary = 50272;
  const Buffer table = filled(2 * vocabulary * hidden), out = filled(2 * tokens * hidden);
  Twin index(static_cast<std::uint64_t>(tokens) * sizeof(std::int32_t));
  for (std::int64_t i = 0; i < tokens; ++i)
    reinterpret_cast<std::int32_t*>(index.host())[i] = static_cast<std::int32_t>(i * 7919 % vocabulary);
  index.upload();
  time_calls(state, 4.0 * static_cast<double>(tokens * hidden), 0, kMemory, [&](int) {
    gather_rows(gpu().context, half_matrix(table, vocabulary, hidden),
                reinterpret_cast<const std::int32_t*>(index.device()), half_matrix(out, tokens, hidden));
  });
}

/// The most likely token of rows of float32 logits. Argument: rows.
void argmax_op(benchmark::State& state) {
  const std::int64_t rows = state.range(0), vocabulary = 50272;
  const std::int64_t bytes = 4 * rows * vocabulary;
  const Buffer logits = filled(bytes);
  const Buffer token(MemoryKind::device, static_cast<std::uint64_t>(rows) * sizeof(std::int32_t), kGpu);
  time_calls(state, static_cast<double>(bytes), 0, kMemory, [&](int) {
    argmax_rows(gpu().context, contiguous_view(logits.data(), rows, vocabulary, DType::float32),
                reinterpret_cast<std::int32_t*>(token.data()));
  });
}

void every_linear(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t hidden : {4096, 7168}) {
    for (const std::int64_t tokens : {1, 8, 64, 4096}) {  // decode, prefill
      bench->Args({tokens, 3 * hidden, hidden})->Args({tokens, hidden, hidden});
      bench->Args({tokens, 4 * hidden, hidden})->Args({tokens, hidden, 4 * hidden});
    }
    bench->Args({8, 50272, hidden})->Args({64, 50272, hidden});
  }
}

BENCHMARK_CAPTURE(link, host_to_gpu, Direction::to_gpu)->Apply(timed);
BENCHMARK_CAPTURE(link, gpu_to_host, Direction::to_host)->Apply(timed);
BENCHMARK_CAPTURE(link, both, Direction::both)->Apply(timed);
BENCHMARK(linear_op)->Name("linear")->Apply(every_linear)->Apply(timed);
BENCHMARK(attention_op)
    ->Name("attention_decode")
    ->ArgsProduct({{1, 8, 64}, {543}, {1}, {32, 56}, {128}})
    ->ArgsProduct({{32}, {543}, {1}, {32}, {80, 64}})
    ->Args({8, 2000, 1, 32, 128})
    ->Apply(timed);
BENCHMARK(attention_op)
    ->Name("attention_prefill")
    ->ArgsProduct({{8, 32}, {0}, {512}, {32, 56}, {128}})
    ->ArgsProduct({{8}, {0}, {512}, {32}, {80, 64}})
    ->Args({8, 512, 512, 32, 128})
    ->Args({2, 0, 2048, 32, 128})
    ->Apply(timed);
BENCHMARK(append_kv_op)->Name("append_kv")->Args({64, 543, 1, 32, 128})->Args({8, 0, 512, 32, 128})->Apply(timed);
BENCHMARK(layer_op)->Name("layer_decode")->ArgsProduct({{1, 8, 64}, {543}, {4096, 7168}})->Apply(timed);
BENCHMARK(layer_norm_op)->Name("layer_norm")->ArgsProduct({{8, 64, 16384}, {4096, 7168}})->Apply(timed);
BENCHMARK(gather_rows_op)->Name("gather_rows")->ArgsProduct({{8, 64, 16384}, {4096, 7168}})->Apply(timed);
BENCHMARK(argmax_op)->Name("argmax_rows")->Arg(8)->Arg(64)->Apply(timed);

}  // namespace
}  // namespace flexgen::gpu

BENCHMARK_MAIN();

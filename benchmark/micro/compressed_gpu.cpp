// The GPU's ops on compressed matrices and caches, and attention that reads some of the values only, beside the
// ceilings of gpu_timing.hpp. Shapes are those of OPT-6.7B (hidden 4096, 32 heads) and OPT-30B (hidden 7168, 56 heads).
// bytes_per_second counts bytes as they are stored.
#include "gpu_timing.hpp"
#include "ops/quantize.hpp"

namespace flexgen::gpu {
namespace {

/// From the arguments at `first`: bits (16: float16, not compressed), group.
QuantFormat format_of(const benchmark::State& state, std::size_t first) {
  const auto bits = static_cast<std::int32_t>(state.range(first));
  return bits == 16 ? QuantFormat{} : QuantFormat{bits, static_cast<std::int32_t>(state.range(first + 1))};
}

/// Arguments: rows, cols, bits, group. Bytes: read compressed and written plain.
void dequantize_op(benchmark::State& state) {
  const std::int64_t rows = state.range(0), cols = state.range(1);
  const Matrices from(rows, cols, format_of(state, 2));
  const Buffer to = filled(2 * rows * cols);
  time_calls(state, from.bytes() + 2.0 * static_cast<double>(rows * cols), 0, kMemory,
             [&](int i) { dequantize_rows(gpu().context, from.at(i), half_matrix(to, rows, cols)); });
}

/// Arguments: tokens, outputs, inputs, bits, group.
void linear_op(benchmark::State& state) {
  time_linear(state, state.range(0), state.range(1), state.range(2), format_of(state, 3));
}

/// Arguments: those of attention_setup, bits, group.
void attention_op(benchmark::State& state, DType dtype) {
  AttentionSetup setup = attention_setup(state, format_of(state, 5));
  setup.dtype = dtype;
  time_attention(state, setup);
}

/// As above, then percent of the values that are read.
void sparse_attention_op(benchmark::State& state) {
  time_attention(state, attention_setup(state, format_of(state, 5)), static_cast<float>(state.range(7)) / 100.0F);
}

/// Arguments: those of attention_setup, bits, group.
void append_kv_op(benchmark::State& state) { time_append_kv(state, attention_setup(state, format_of(state, 5))); }

void every_matrix(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t bits : {4, 8}) {
    bench->Args({4096, 4096, bits, 64})->Args({12288, 4096, bits, 64})->Args({16384, 4096, bits, 64});
    bench->Args({28672, 7168, bits, 64})->Args({50272, 7168, bits, 64});
  }
}
void every_linear(benchmark::internal::Benchmark* bench) {
  const auto of_tokens = [&](std::int64_t tokens, std::int64_t bits) {
    bench->Args({tokens, 12288, 4096, bits, 64})->Args({tokens, 4096, 4096, bits, 64});
    bench->Args({tokens, 16384, 4096, bits, 64})->Args({tokens, 4096, 16384, bits, 64});
    bench->Args({tokens, 21504, 7168, bits, 64});
    bench->Args({tokens, 28672, 7168, bits, 64})->Args({tokens, 7168, 28672, bits, 64});
  };
  for (const std::int64_t tokens : {1, 8, 16, 32, 48, 64, 128, 256, 264, 384, 512}) of_tokens(tokens, 4);
  for (const std::int64_t tokens : {1, 64}) of_tokens(tokens, 8);
}
void every_decode(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t rows : {1, 8, 64, 128}) bench->Args({rows, 543, 1, 32, 128, 4, 64});
  bench->Args({64, 543, 1, 56, 128, 4, 64})->Args({64, 543, 1, 32, 128, 4, 32});
  bench->Args({64, 543, 1, 32, 80, 4, 64})->Args({64, 543, 1, 32, 64, 4, 64});
  bench->Args({16, 2000, 1, 32, 128, 4, 64});
  bench->Args({8, 543, 1, 32, 128, 8, 64})->Args({64, 543, 1, 32, 128, 8, 64});
}

BENCHMARK(dequantize_op)->Name("dequantize_rows")->Apply(every_matrix)->Apply(timed);
BENCHMARK(linear_op)->Name("linear")->Apply(every_linear)->Apply(timed);
BENCHMARK_CAPTURE(attention_op, decode, kHalf)->Name("attention_decode")->Apply(every_decode)->Apply(timed);
BENCHMARK_CAPTURE(attention_op, decode_bfloat16, DType::bfloat16)
    ->Name("attention_decode_bfloat16")
    ->Args({64, 543, 1, 32, 128, 4, 64})
    ->Apply(timed);
BENCHMARK_CAPTURE(attention_op, prefill, kHalf)
    ->Name("attention_prefill")
    ->Args({8, 0, 512, 32, 128, 4, 64})
    ->Args({32, 0, 512, 32, 128, 4, 64})
    ->Args({8, 0, 512, 32, 128, 8, 64})
    ->Apply(timed);
BENCHMARK(sparse_attention_op)
    ->Name("attention_sparse")
    ->ArgsProduct({{64}, {543}, {1}, {32}, {128}, {16, 4}, {64}, {10, 25}})
    ->ArgsProduct({{8}, {2000}, {1}, {32}, {128}, {16, 4}, {64}, {10, 25}})
    ->Apply(timed);
BENCHMARK(append_kv_op)
    ->Name("append_kv")
    ->ArgsProduct({{64}, {543}, {1}, {32}, {128}, {4, 8}, {64}})
    ->ArgsProduct({{8, 24}, {0}, {512}, {32}, {128}, {4, 8}, {64}})
    ->Apply(timed);

}  // namespace
}  // namespace flexgen::gpu

BENCHMARK_MAIN();

// The host's ops beside what bounds them: reading and copying memory (bytes_per_second), and multiply-adds on data in
// the L1 cache (items_per_second, two operations each). A label names an op's ceilings, that of bytes first, as
// compare.py reads them. benchmark/README.md says how to run and read it.
//
// Weights are spread over 1 GiB and used in turn: no cache keeps them from one call to the next, as in a model.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "device/buffer.hpp"
#include "memory_read.hpp"
#include "ops/attention.hpp"
#include "ops/elementwise.hpp"
#include "ops/embedding.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/layer_norm.hpp"
#include "ops/linear.hpp"
#include "ops/parallel_for.hpp"
#include "ops/sampling.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t kManyBytes = 1ULL << 30;
constexpr std::int64_t kHidden = 2048;  // of OPT-1.3B: 32 heads of 64, 4 * 2048 in the middle of the MLP
constexpr std::int64_t kMiddle = 8192;
constexpr std::int32_t kHeads = 32;
constexpr std::int32_t kHeadDim = 64;

/// Random numbers in +-0.1 on host memory.
Buffer random_buffer(std::uint64_t bytes, DType dtype) {
  Buffer buffer(MemoryKind::pageable, bytes, {});
  fill_random(buffer.data(), dtype, bytes / element_bytes(dtype), 0.1F, 1, 0);
  return buffer;
}

const Buffer& many_bytes() {  // as bfloat16: finite in either dtype
  static const Buffer buffer = random_buffer(kManyBytes, DType::bfloat16);
  return buffer;
}

DType dtype_of(const benchmark::State& state, int argument) {
  return state.range(argument) == 32 ? DType::float32 : DType::bfloat16;
}

void count(benchmark::State& state, std::uint64_t bytes, std::uint64_t multiply_adds) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(multiply_adds));
}

// ---- ceilings -----------------------------------------------------------------------------------------------------

// A piece of the memory at a time, another one each time: short enough that, on a shared machine, the best of many is
// undisturbed.
constexpr std::int64_t kTurnBytes = 64 << 20;

void memory_read(benchmark::State& state) {
  std::uint64_t turn = 0;
  for (auto _ : state) {
    const std::byte* data = many_bytes().data() + turn++ % (kManyBytes / kTurnBytes) * kTurnBytes;
    parallel_for(kTurnBytes / kPiece, true, [&](std::int64_t piece) {
      std::uint64_t sum = read_piece(data + piece * kPiece);
      benchmark::DoNotOptimize(sum);
    });
  }
  count(state, kTurnBytes, 0);
}

void memory_copy(benchmark::State& state) {  // bytes_per_second counts what is copied: half of the traffic
  const Buffer target = random_buffer(kTurnBytes, DType::bfloat16);  // every page exists
  std::uint64_t turn = 0;
  for (auto _ : state) {
    const std::byte* source = many_bytes().data() + turn++ % (kManyBytes / kTurnBytes) * kTurnBytes;
    parallel_for(kTurnBytes / kPiece, true, [&](std::int64_t piece) {
      std::memcpy(target.data() + piece * kPiece, source + piece * kPiece, kPiece);
    });
  }
  count(state, kTurnBytes, 0);
}

/// Argument: bits of the operands. 16: in the processor's own bfloat16 instruction, or widened where it has none.
void multiply_adds(benchmark::State& state) {
  const std::int64_t m = 4, n = 6, k = 1024, rounds = 500;
  const DType dtype = dtype_of(state, 0);
  const bool pairs = dtype == DType::bfloat16 && host_kernels().multiplies_bfloat16;
  const std::byte* data = many_bytes().data();
  for (auto _ : state) {
    parallel_for(num_loop_threads(), true, [&](std::int64_t) {
      std::vector<float> sums(m * n);
      for (std::int64_t i = 0; i < rounds; ++i) {
        DotsArgs args;
        args.a = data;
        args.a_dtype = pairs ? DType::bfloat16 : DType::float32;
        args.a_stride = args.b_stride = k;
        args.b = data + m * k * 4;
        args.b_dtype = dtype;
        args.m = m, args.n = n, args.k = k;
        args.c = sums.data();
        args.c_stride = n;
        host_kernels().dots(args);
      }
      benchmark::DoNotOptimize(sums.data());
    });
  }
  count(state, 0, static_cast<std::uint64_t>(m * n * k * rounds * num_loop_threads()));
}

/// The label of an op that reads `bytes` from memory, and multiplies in this dtype.
void bound_by_memory_and(benchmark::State& state, DType dtype) {
  const bool pairs = dtype == DType::bfloat16 && host_kernels().multiplies_bfloat16;
  state.SetLabel(std::string("memory_read multiply_adds/") + (pairs ? "16" : "32"));
}

// ---- ops ----------------------------------------------------------------------------------------------------------

/// Arguments: tokens, outputs, inputs, bits of the dtype.
void linear_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), out = state.range(1), in = state.range(2);
  const DType dtype = dtype_of(state, 3);
  const std::uint64_t weight_bytes = static_cast<std::uint64_t>(out * in) * element_bytes(dtype);
  const std::uint64_t num_weights = kManyBytes / weight_bytes;
  const Buffer x = random_buffer(static_cast<std::uint64_t>(tokens * in) * element_bytes(dtype), dtype);
  const Buffer y = random_buffer(static_cast<std::uint64_t>(tokens * out) * element_bytes(dtype), dtype);
  LinearArgs args;
  args.x = contiguous_view(x.data(), tokens, in, dtype);
  args.out = contiguous_view(y.data(), tokens, out, dtype);
  std::uint64_t turn = 0;
  for (auto _ : state) {
    args.weight = contiguous_view(many_bytes().data() + turn++ % num_weights * weight_bytes, out, in, dtype);
    linear({}, args);
  }
  count(state, weight_bytes, static_cast<std::uint64_t>(tokens * out * in));
  bound_by_memory_and(state, dtype);
}

/// Arguments: rows, new tokens per row, positions before them, bits of the dtype.
void attention_op(benchmark::State& state) {
  const auto rows = static_cast<std::int32_t>(state.range(0)), fresh = static_cast<std::int32_t>(state.range(1));
  const auto past = static_cast<std::int32_t>(state.range(2));
  const DType dtype = dtype_of(state, 3);
  const std::int64_t bytes = static_cast<std::int64_t>(element_bytes(dtype));
  const std::int32_t length = past + fresh;
  const std::int64_t head_bytes = std::int64_t{2} * length * kHeadDim * bytes;
  const std::int64_t num_caches = std::max<std::int64_t>(1, kManyBytes / (head_bytes * rows * kHeads));
  std::vector<std::int32_t> offset(static_cast<std::size_t>(rows) + 1), start(static_cast<std::size_t>(rows), past);
  for (std::int32_t r = 0; r <= rows; ++r) offset[static_cast<std::size_t>(r)] = r * fresh;
  std::vector<KvHead> heads(static_cast<std::size_t>(rows * kHeads));
  const Buffer q = random_buffer(static_cast<std::uint64_t>(rows * fresh * kHidden * bytes), dtype);
  const Buffer out = random_buffer(q.size_bytes(), dtype);
  AttentionArgs args;
  args.batch = {rows, rows * fresh, fresh, length, offset.data(), start.data(), offset.data(), start.data()};
  args.q = contiguous_view(q.data(), rows * fresh, kHidden, dtype);
  args.out = contiguous_view(out.data(), rows * fresh, kHidden, dtype);
  args.cache = {heads.data(), heads.data(), kHeads, kHeadDim};
  args.scale = 0.125F;
  std::int64_t turn = 0;
  for (auto _ : state) {
    std::byte* base = many_bytes().data() + turn++ % num_caches * head_bytes * rows * kHeads;
    for (std::size_t h = 0; h < heads.size(); ++h)
      heads[h] = {base + static_cast<std::int64_t>(h) * head_bytes, kHeadDim, length * kHeadDim};
    attention({}, args);
  }
  const std::uint64_t pairs = std::uint64_t(fresh) * std::uint64_t(past) + std::uint64_t(fresh) * (fresh + 1) / 2;
  count(state, static_cast<std::uint64_t>(head_bytes * rows * kHeads), 2 * pairs * rows * kHidden);
  bound_by_memory_and(state, DType::float32);
}

/// Arguments: tokens, bits of the dtype.
void layer_norm_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  const DType dtype = dtype_of(state, 1);
  const std::uint64_t bytes = static_cast<std::uint64_t>(tokens * kHidden) * element_bytes(dtype);
  const Buffer x = random_buffer(bytes, dtype), y = random_buffer(bytes, dtype);
  const Buffer affine = random_buffer(4 * kHidden, dtype);
  LayerNormArgs args;
  args.x = contiguous_view(x.data(), tokens, kHidden, dtype);
  args.out = contiguous_view(y.data(), tokens, kHidden, dtype);
  args.gamma = args.beta = contiguous_view(affine.data(), 1, kHidden, dtype);
  for (auto _ : state) layer_norm({}, args);
  count(state, 2 * bytes, 0);
  state.SetLabel("memory_read");
}

/// Tokens of the vocabulary into rows: argument as above.
void gather_rows_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  const DType dtype = dtype_of(state, 1);
  const auto row_bytes = static_cast<std::int64_t>(kHidden * element_bytes(dtype));
  const std::int64_t table_rows = static_cast<std::int64_t>(kManyBytes) / row_bytes;
  const MatrixView table = contiguous_view(many_bytes().data(), table_rows, kHidden, dtype);
  const Buffer out = random_buffer(static_cast<std::uint64_t>(tokens * row_bytes), dtype);
  std::vector<std::int32_t> index(static_cast<std::size_t>(tokens));
  std::int64_t next = 0;
  for (auto _ : state) {
    for (std::int32_t& i : index) i = static_cast<std::int32_t>((next += 7919) % table_rows);
    gather_rows({}, table, index.data(), contiguous_view(out.data(), tokens, kHidden, dtype));
  }
  count(state, static_cast<std::uint64_t>(tokens * row_bytes), 0);
  state.SetLabel("memory_copy");
}

/// The most likely token of rows of float32 logits. Argument: rows.
void argmax_op(benchmark::State& state) {
  constexpr std::int64_t vocabulary = 50272;
  const std::int64_t rows = state.range(0);
  const std::uint64_t bytes = static_cast<std::uint64_t>(rows * vocabulary) * 4;
  std::vector<std::int32_t> token(static_cast<std::size_t>(rows));
  std::uint64_t turn = 0;
  for (auto _ : state) {
    std::byte* logits = many_bytes().data() + turn++ % (kManyBytes / bytes) * bytes;
    argmax_rows({}, contiguous_view(logits, rows, vocabulary, DType::float32), token.data());
  }
  count(state, bytes, 0);
  state.SetLabel("memory_read");
}

/// New keys and values into the cache. Arguments: tokens of one row, bits of the dtype.
void append_kv_op(benchmark::State& state) {
  const auto tokens = static_cast<std::int32_t>(state.range(0));
  const DType dtype = dtype_of(state, 1);
  const std::uint64_t bytes = static_cast<std::uint64_t>(tokens * kHidden) * element_bytes(dtype);
  const std::int32_t offset[] = {0, tokens}, start[] = {0};
  const Buffer kv = random_buffer(3 * bytes, dtype), cache = random_buffer(2 * bytes, dtype);
  std::vector<KvHead> heads(kHeads);
  for (std::int32_t h = 0; h < kHeads; ++h)
    heads[static_cast<std::size_t>(h)] = {
        cache.data() + h * 2 * kHeadDim * static_cast<std::int32_t>(element_bytes(dtype)), 2 * kHidden, kHeadDim};
  const BatchView batch{1, tokens, tokens, tokens, offset, start, offset, start};
  const MatrixView qkv = contiguous_view(kv.data(), tokens, 3 * kHidden, dtype);
  for (auto _ : state)
    append_kv({}, batch, qkv.col_range(kHidden, kHidden), qkv.col_range(2 * kHidden, kHidden),
              {heads.data(), heads.data(), kHeads, kHeadDim});
  count(state, 2 * bytes, 0);
  state.SetLabel("memory_copy");
}

/// Arguments: tokens, bits of the dtype.
void add_op(benchmark::State& state) {
  const DType dtype = dtype_of(state, 1);
  const std::uint64_t bytes = static_cast<std::uint64_t>(state.range(0) * kHidden) * element_bytes(dtype);
  const Buffer x = random_buffer(bytes, dtype), y = random_buffer(bytes, dtype);
  const auto view = [&](const Buffer& buffer) {
    return contiguous_view(buffer.data(), state.range(0), kHidden, dtype);
  };
  for (auto _ : state) add({}, view(x), view(y), view(x));
  count(state, 3 * bytes, 0);
  state.SetLabel("memory_read");
}

void every_linear(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t bits : {32, 16})
    for (const std::int64_t tokens : {1, 8, 64, 512}) bench->Args({tokens, kMiddle, kHidden, bits});
  bench->Args({8, kHidden, kMiddle, 32})->Args({8, kHidden, kHidden, 32});
}

void timed(benchmark::internal::Benchmark* bench) { bench->UseRealTime()->Unit(benchmark::kMicrosecond); }

BENCHMARK(memory_read)->Apply(timed);
BENCHMARK(memory_copy)->Apply(timed);
BENCHMARK(multiply_adds)->Arg(32)->Arg(16)->Apply(timed);
BENCHMARK(linear_op)->Name("linear")->Apply(every_linear)->Apply(timed);
BENCHMARK(attention_op)->Name("attention_decode")->Args({8, 1, 511, 32})->Args({8, 1, 511, 16})->Apply(timed);
BENCHMARK(attention_op)->Name("attention_prefill")->Args({1, 512, 0, 32})->Args({1, 512, 0, 16})->Apply(timed);
BENCHMARK(layer_norm_op)->Name("layer_norm")->Args({8, 32})->Args({512, 32})->Args({512, 16})->Apply(timed);
BENCHMARK(gather_rows_op)->Name("gather_rows")->Args({8, 32})->Args({2048, 32})->Args({2048, 16})->Apply(timed);
BENCHMARK(argmax_op)->Name("argmax_rows")->Arg(8)->Apply(timed);
BENCHMARK(append_kv_op)->Name("append_kv")->Args({1, 32})->Args({2048, 32})->Args({2048, 16})->Apply(timed);
BENCHMARK(add_op)->Name("add")->Args({8, 32})->Args({4096, 32})->Args({4096, 16})->Apply(timed);

}  // namespace
}  // namespace flexgen

BENCHMARK_MAIN();

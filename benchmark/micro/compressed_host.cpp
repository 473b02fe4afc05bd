// Attention of one new token per row on a cache in host memory, plain and compressed, beside reading that memory
// (bytes_per_second: bytes of the cache as it is stored), and the speed of compressing and decompressing.
//
// Rows are spread over 2 GiB and used in turn. Arguments of attention: heads, head dimension, positions, bits of an
// element (16: float16; 4 and 8: compressed in groups of 64), percent of the values that are read.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "device/buffer.hpp"
#include "memory_read.hpp"
#include "ops/attention.hpp"
#include "ops/elementwise.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kManyBytes = std::int64_t{2} << 30;

const std::byte* many_bytes() {
  static const Buffer buffer = [] {
    Buffer made(MemoryKind::pageable, kManyBytes, {});
    madvise(made.data(), kManyBytes, MADV_HUGEPAGE);  // as the engine's caches are
    fill_random(made.data(), DType::float16, kManyBytes / 2, 0.1F, 1, 0);
    return made;
  }();
  return buffer.data();
}

void memory_read(benchmark::State& state) {
  const std::byte* data = many_bytes();
  for (auto _ : state)
    parallel_for(kManyBytes / kPiece, true, [&](std::int64_t piece) {
      std::uint64_t sum = read_piece(data + piece * kPiece);
      benchmark::DoNotOptimize(sum);
    });
  state.SetBytesProcessed(state.iterations() * kManyBytes);
}

void attention_decode(benchmark::State& state) {
  const std::int64_t heads = state.range(0), dim = state.range(1), length = state.range(2), bits = state.range(3);
  const QuantFormat quant = bits == 16 ? QuantFormat{} : QuantFormat{static_cast<std::int32_t>(bits), 64};
  const std::int64_t code = quant.is_none() ? 2 * dim : quant.code_bytes(dim);
  const std::int64_t parameter = quant.is_none() ? 0 : quant.parameter_bytes(dim);
  const std::int64_t position = 2 * heads * (code + parameter);
  const std::int64_t rows = std::min<std::int64_t>(64, kManyBytes / 2 / (position * length));
  const std::int64_t num_caches = kManyBytes / (rows * position * length);
  std::vector<std::int32_t> offset, start(static_cast<std::size_t>(rows), static_cast<std::int32_t>(length - 1));
  for (std::int64_t r = 0; r <= rows; ++r) offset.push_back(static_cast<std::int32_t>(r));
  std::vector<KvHead> table(static_cast<std::size_t>(rows * heads));
  const Buffer q(MemoryKind::pageable, static_cast<std::uint64_t>(rows * heads * dim * 2), {});
  const Buffer out(MemoryKind::pageable, q.size_bytes(), {});
  fill_random(q.data(), DType::float16, static_cast<std::uint64_t>(rows * heads * dim), 1.0F, 2, 0);
  AttentionArgs args;
  args.batch = {static_cast<std::int32_t>(rows),
                static_cast<std::int32_t>(rows),
                1,
                static_cast<std::int32_t>(length),
                offset.data(),
                start.data(),
                offset.data(),
                start.data()};
  args.q = contiguous_view(q.data(), rows, heads * dim, DType::float16);
  args.out = contiguous_view(out.data(), rows, heads * dim, DType::float16);
  args.cache = {table.data(), table.data(), static_cast<std::int32_t>(heads), static_cast<std::int32_t>(dim), quant};
  args.scale = 0.1F;
  args.sparsity = static_cast<float>(state.range(4)) / 100.0F;
  std::int64_t turn = 0;
  for (auto _ : state) {
    std::byte* cache = const_cast<std::byte*>(many_bytes()) + turn++ % num_caches * rows * position * length;
    for (std::int64_t i = 0; i < rows * heads; ++i) {
      const auto h = static_cast<std::int32_t>(i % heads);
      KvHead& head = table[static_cast<std::size_t>(i)];
      head.base = cache + i / heads * position * length + h * code;
      const std::int64_t unit = quant.is_none() ? 2 : 1;
      head.position_stride = static_cast<std::int32_t>(position / unit);
      head.v_offset = static_cast<std::int32_t>(heads * code / unit);
      head.k_parameters = static_cast<std::int32_t>(2 * heads * code + h * (parameter - code));
      head.v_parameters = static_cast<std::int32_t>(head.k_parameters + heads * parameter);
    }
    attention_decode_host(args, loop_threads());
  }
  state.SetBytesProcessed(state.iterations() * rows * position * length);
}

/// Arguments: bits, group, refinements. items_per_second: elements.
void compress(benchmark::State& state) {
  const std::int64_t rows = 1024, cols = 4096;
  const QuantFormat quant{static_cast<std::int32_t>(state.range(0)), static_cast<std::int32_t>(state.range(1))};
  const Buffer plain(MemoryKind::pageable, rows * cols * 2, {});
  const Buffer stored(MemoryKind::pageable, static_cast<std::uint64_t>(rows * quant.row_bytes(cols)), {});
  fill_random(plain.data(), DType::float16, rows * cols, 1.0F, 3, 0);
  const MatrixView from = contiguous_view(plain.data(), rows, cols, DType::float16);
  const MatrixView to = contiguous_view(stored.data(), rows, cols, DType::float16, quant);
  for (auto _ : state) {
    bool finite = quantize_rows(from, to, static_cast<int>(state.range(2)));
    benchmark::DoNotOptimize(finite);
  }
  state.SetItemsProcessed(state.iterations() * rows * cols);
}

/// Arguments: bits, group. bytes_per_second: read and written.
void decompress(benchmark::State& state) {
  const std::int64_t rows = 8192, cols = 4096;
  const QuantFormat quant{static_cast<std::int32_t>(state.range(0)), static_cast<std::int32_t>(state.range(1))};
  const Buffer plain(MemoryKind::pageable, rows * cols * 2, {});
  const MatrixView from = contiguous_view(const_cast<std::byte*>(many_bytes()), rows, cols, DType::float16, quant);
  const MatrixView to = contiguous_view(plain.data(), rows, cols, DType::float16);
  for (auto _ : state) dequantize_rows({}, from, to);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(from.size_bytes() + to.size_bytes()));
}

void every_cache(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t bits : {16, 8, 4}) {
    bench->Args({56, 128, 1024, bits, 100});  // OPT-30B
    bench->Args({32, 64, 1024, bits, 100});   // OPT-1.3B
    bench->Args({56, 128, 1024, bits, 10});
  }
}
void every_format(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t bits : {4, 8})
    for (const std::int64_t refinements : {0, cache_refinements, weight_refinements})
      bench->Args({bits, 64, refinements});
}
void timed(benchmark::internal::Benchmark* bench) { bench->UseRealTime()->Unit(benchmark::kMillisecond); }

BENCHMARK(memory_read)->Apply(timed);
BENCHMARK(attention_decode)->Apply(every_cache)->Apply(timed);
BENCHMARK(compress)->Apply(every_format)->Apply(timed);
BENCHMARK(decompress)->Args({4, 64})->Args({8, 64})->Apply(timed);

}  // namespace
}  // namespace flexgen

BENCHMARK_MAIN();

// The GPU's ops and links beside what bounds them: copies within its memory (bytes_per_second counts what is read and
// what is written), and float16 multiply-adds of a large product (items_per_second, two operations each). Times are
// the GPU's own, between two events around several calls; a label names an op's ceilings, as compare.py reads them.
//
// Shapes are those of OPT-6.7B (hidden 4096, 32 heads) and OPT-30B (hidden 7168, 56 heads). What an op reads lies in
// several copies that take turns, so that no copy is still in the GPU's cache. Needs GPU 0 and 8 GiB of its memory.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "ops/attention.hpp"
#include "ops/embedding.hpp"
#include "ops/layer_norm.hpp"
#include "ops/linear.hpp"
#include "ops/sampling.hpp"
#include "tests/gpu/gpu_case.hpp"

namespace flexgen::gpu {
namespace {

constexpr DType kHalf = DType::float16;
constexpr std::uint64_t kBeyondCache = 512 << 20;
constexpr std::uint64_t kWorkspaceBytes = 256 << 20;
constexpr char kMemory[] = "gpu_copy";
constexpr char kMemoryAndTensorCores[] = "gpu_copy gpu_product";

struct Event {
  Event() { FLEXGEN_CUDA_CALL(cudaEventCreate(&handle)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(handle); }
  cudaEvent_t handle = nullptr;
};

/// A stream with a workspace, for the life of the program: its end comes after the driver's.
struct Gpu {
  Gpu() {
    use_device(kGpu);
    FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&other_stream, cudaStreamNonBlocking));
    context.device = kGpu;
    context.stream = stream;
    context.workspace = &workspace;
  }
  cudaStream_t stream = nullptr, other_stream = nullptr;
  Buffer scratch{MemoryKind::device, kWorkspaceBytes, kGpu};
  Workspace workspace{scratch.data(), scratch.size_bytes()};
  OpContext context;
};

Gpu& gpu() {
  static Gpu* const one = new Gpu;
  return *one;
}

/// Iterations of some calls each, timed on the GPU. `body` gets the number of the call.
template <class Body>
void time_calls(benchmark::State& state, double bytes, double multiply_adds, const char* ceilings, const Body& body) {
  constexpr int calls = 16;
  const Event begin, end;
  int number = 0;
  for (; number < 4; ++number) body(number);  // libraries load what they need
  for (auto _ : state) {
    FLEXGEN_CUDA_CALL(cudaEventRecord(begin.handle, gpu().stream));
    for (int i = 0; i < calls; ++i) body(number++);
    FLEXGEN_CUDA_CALL(cudaEventRecord(end.handle, gpu().stream));
    FLEXGEN_CUDA_CALL(cudaEventSynchronize(end.handle));
    float milliseconds = 0.0F;
    FLEXGEN_CUDA_CALL(cudaEventElapsedTime(&milliseconds, begin.handle, end.handle));
    state.SetIterationTime(milliseconds * 1e-3 / calls);
  }
  const auto iterations = static_cast<double>(state.iterations());
  state.SetBytesProcessed(static_cast<std::int64_t>(iterations * bytes));
  state.SetItemsProcessed(static_cast<std::int64_t>(iterations * multiply_adds));
  state.SetLabel(ceilings);
}

Buffer filled(MemoryKind kind, std::uint64_t bytes) {
  Buffer buffer(kind, bytes, kGpu);
  FLEXGEN_CUDA_CALL(cudaMemset(buffer.data(), 0x11, bytes));  // small finite numbers in every dtype
  FLEXGEN_CUDA_CALL(cudaDeviceSynchronize());
  return buffer;
}

MatrixView half_matrix(const Buffer& buffer, std::int64_t rows, std::int64_t cols) {
  return contiguous_view(buffer.data(), rows, cols, kHalf);
}

// ---- ceilings and links -------------------------------------------------------------------------------------------

void gpu_copy(benchmark::State& state) {
  const std::uint64_t bytes = 1ULL << 30;
  const Buffer from = filled(MemoryKind::device, bytes), to = filled(MemoryKind::device, bytes);
  time_calls(state, 2.0 * bytes, 0, "", [&](int) {
    FLEXGEN_CUDA_CALL(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, gpu().stream));
  });
}

void gpu_product(benchmark::State& state) {
  const std::int64_t n = 8192;
  const Buffer a = filled(MemoryKind::device, 2 * n * n), b = filled(MemoryKind::device, 2 * n * n);
  const Buffer c = filled(MemoryKind::device, 2 * n * n);
  const LinearArgs args{half_matrix(a, n, n), half_matrix(b, n, n), std::nullopt,
                        Activation::none,     std::nullopt,         half_matrix(c, n, n)};
  time_calls(state, 0, static_cast<double>(n) * n * n, "", [&](int) { linear(gpu().context, args); });
}

enum class Direction { to_gpu, to_host, both };

/// Pinned memory; `both` counts the bytes of the two directions.
void link(benchmark::State& state, Direction direction) {
  const std::uint64_t bytes = 256 << 20;
  Buffer host_out(MemoryKind::pinned, bytes, kGpu), host_in(MemoryKind::pinned, bytes, kGpu);
  std::memset(host_out.data(), 1, bytes);
  std::memset(host_in.data(), 1, bytes);
  const Buffer first = filled(MemoryKind::device, bytes), second = filled(MemoryKind::device, bytes);
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

/// Arguments: tokens, outputs, inputs. Bytes are those of the weights.
void linear_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), out = state.range(1), in = state.range(2);
  const auto weight_bytes = static_cast<std::uint64_t>(2 * out * in);
  const auto num_weights = static_cast<int>(kBeyondCache / weight_bytes + 1);
  const Buffer weights = filled(MemoryKind::device, weight_bytes * static_cast<std::uint64_t>(num_weights));
  const Buffer bias = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * out));
  const Buffer x = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * tokens * in));
  const Buffer y = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * tokens * out));
  time_calls(state, static_cast<double>(weight_bytes), static_cast<double>(tokens * out * in), kMemoryAndTensorCores,
             [&](int i) {
               std::byte* weight = weights.data() + static_cast<std::uint64_t>(i % num_weights) * weight_bytes;
               linear(gpu().context,
                      {half_matrix(x, tokens, in), contiguous_view(weight, out, in, kHalf), half_matrix(bias, 1, out),
                       Activation::none, std::nullopt, half_matrix(y, tokens, out)});
             });
}

/// Caches of equal rows, as many as lie beyond the GPU's cache.
std::vector<std::unique_ptr<AttentionCase>> attention_cases(int rows, RowShape shape, int heads) {
  std::vector<std::unique_ptr<AttentionCase>> cases;
  for (double total = 0.0; total < static_cast<double>(kBeyondCache); total += cases.back()->cache_bytes()) {
    cases.push_back(std::make_unique<AttentionCase>(std::vector<RowShape>(static_cast<std::size_t>(rows), shape), heads,
                                                    128, kHalf));
    cases.back()->cache_memory().fill(0x11);
    cases.back()->cache_memory().upload();
  }
  return cases;
}

/// Arguments: rows, positions before the new tokens, new tokens per row, heads of 128.
void attention_op(benchmark::State& state) {
  const RowShape shape{static_cast<std::int32_t>(state.range(1)), static_cast<std::int32_t>(state.range(2))};
  const auto cases = attention_cases(static_cast<int>(state.range(0)), shape, static_cast<int>(state.range(3)));
  const AttentionCase& one = *cases[0];
  const Buffer q = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * one.num_tokens() * one.cols()));
  const Buffer out = filled(MemoryKind::device, q.size_bytes());
  time_calls(state, one.cache_bytes(), one.operations() / 2, kMemoryAndTensorCores, [&](int i) {
    AttentionCase& work = *cases[static_cast<std::size_t>(i) % cases.size()];
    attention(gpu().context, {work.batch(true), half_matrix(q, work.num_tokens(), work.cols()), work.cache(true), 0.1F,
                              half_matrix(out, work.num_tokens(), work.cols())});
  });
}

/// Arguments as above. Bytes: keys and values of the new tokens, read and written.
void append_kv_op(benchmark::State& state) {
  const RowShape shape{static_cast<std::int32_t>(state.range(1)), static_cast<std::int32_t>(state.range(2))};
  const auto cases = attention_cases(static_cast<int>(state.range(0)), shape, static_cast<int>(state.range(3)));
  const std::int64_t tokens = cases[0]->num_tokens(), cols = cases[0]->cols();
  const Buffer qkv = filled(MemoryKind::device, static_cast<std::uint64_t>(6 * tokens * cols));
  const MatrixView all = half_matrix(qkv, tokens, 3 * cols);
  time_calls(state, 8.0 * static_cast<double>(tokens * cols), 0, kMemory, [&](int i) {
    AttentionCase& work = *cases[static_cast<std::size_t>(i) % cases.size()];
    append_kv(gpu().context, work.batch(true), all.col_range(cols, cols), all.col_range(2 * cols, cols),
              work.cache(true));
  });
}

/// Arguments: tokens, hidden.
void layer_norm_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1);
  const Buffer x = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * tokens * hidden));
  const Buffer y = filled(MemoryKind::device, x.size_bytes());
  const Buffer affine = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * hidden));
  const MatrixView gamma = half_matrix(affine, 1, hidden);
  const LayerNormArgs args{half_matrix(x, tokens, hidden), gamma, gamma, 1e-5F, half_matrix(y, tokens, hidden)};
  time_calls(state, 4.0 * static_cast<double>(tokens * hidden), 0, kMemory,
             [&](int) { layer_norm(gpu().context, args); });
}

/// Arguments: tokens, hidden; of a vocabulary of 50272.
void gather_rows_op(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1), vocabulary = 50272;
  const Buffer table = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * vocabulary * hidden));
  const Buffer out = filled(MemoryKind::device, static_cast<std::uint64_t>(2 * tokens * hidden));
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
  const auto bytes = static_cast<std::uint64_t>(4 * rows * vocabulary);
  const Buffer logits = filled(MemoryKind::device, bytes);
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
void timed(benchmark::internal::Benchmark* bench) { bench->UseManualTime()->Unit(benchmark::kMicrosecond); }

BENCHMARK(gpu_copy)->Apply(timed);
BENCHMARK(gpu_product)->Apply(timed);
BENCHMARK_CAPTURE(link, host_to_gpu, Direction::to_gpu)->Apply(timed);
BENCHMARK_CAPTURE(link, gpu_to_host, Direction::to_host)->Apply(timed);
BENCHMARK_CAPTURE(link, both, Direction::both)->Apply(timed);
BENCHMARK(linear_op)->Name("linear")->Apply(every_linear)->Apply(timed);
BENCHMARK(attention_op)
    ->Name("attention_decode")
    ->ArgsProduct({{1, 8, 64}, {543}, {1}, {32, 56}})
    ->Args({8, 2000, 1, 32})
    ->Apply(timed);
BENCHMARK(attention_op)->Name("attention_prefill")->ArgsProduct({{8, 32}, {0}, {512}, {32, 56}})->Apply(timed);
BENCHMARK(append_kv_op)->Name("append_kv")->Args({64, 543, 1, 32})->Args({8, 0, 512, 32})->Apply(timed);
BENCHMARK(layer_norm_op)->Name("layer_norm")->ArgsProduct({{8, 64, 16384}, {4096, 7168}})->Apply(timed);
BENCHMARK(gather_rows_op)->Name("gather_rows")->ArgsProduct({{8, 64, 16384}, {4096, 7168}})->Apply(timed);
BENCHMARK(argmax_op)->Name("argmax_rows")->Arg(8)->Arg(64)->Apply(timed);

}  // namespace
}  // namespace flexgen::gpu

BENCHMARK_MAIN();

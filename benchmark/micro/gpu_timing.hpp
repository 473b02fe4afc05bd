// How the GPU's micro-benchmarks are timed, and the timings that plain and compressed ops share. Each program that
// links gpu_timing.cpp measures the ceilings, too: copies within the GPU's memory (gpu_copy: bytes_per_second counts
// what is read and what is written) and float16 multiply-adds of a large product (gpu_product: items_per_second).
//
// Times are the GPU's own, between two events around several calls; a label names an op's ceilings, as compare.py reads
// them. What an op reads lies in several copies that take turns, so that no copy is still in the GPU's cache.
// One thread, on GPU 0, of which 4 GiB are needed.
#pragma once

#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "tests/gpu/gpu_check.hpp"

namespace flexgen::gpu {

inline constexpr DType kHalf = DType::float16;
inline constexpr std::int64_t kBeyondCache = 256 << 20;
inline constexpr char kMemory[] = "gpu_copy";
inline constexpr char kMemoryAndTensorCores[] = "gpu_copy gpu_product";

struct Event {
  Event() { FLEXGEN_CUDA_CALL(cudaEventCreate(&handle)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(handle); }
  cudaEvent_t handle = nullptr;
};

/// Streams (the ops' own and one for what goes on beside) and a workspace.
struct Gpu {
  Gpu();
  cudaStream_t stream = nullptr, other_stream = nullptr;
  Buffer scratch;
  Workspace workspace;
  OpContext context;
};
/// For the life of the program: never destroyed, as its end comes after the driver's.
Gpu& gpu();

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

inline void timed(benchmark::internal::Benchmark* bench) { bench->UseManualTime()->Unit(benchmark::kMicrosecond); }

/// Device memory of one byte repeated: a small finite number in every dtype, also as parameters of compressed values.
Buffer filled(std::int64_t bytes);

inline MatrixView half_matrix(const Buffer& buffer, std::int64_t rows, std::int64_t cols) {
  return contiguous_view(buffer.data(), rows, cols, kHalf);
}

/// Matrices of one shape, as many as lie beyond the GPU's cache.
class Matrices {
 public:
  Matrices(std::int64_t rows, std::int64_t cols, const QuantFormat& quant);
  MatrixView at(int i) const;
  double bytes() const { return static_cast<double>(view_.size_bytes()); }  // of one

 private:
  MatrixView view_;
  int count_;
  Buffer memory_;
};

/// Equal rows.
struct AttentionSetup {
  int rows;
  RowShape shape;
  int heads, head_dim;
  QuantFormat quant;
  DType dtype = kHalf;
  bool operator==(const AttentionSetup&) const = default;
};
/// Arguments: rows, positions before the new tokens, new tokens per row, heads, head dimension.
AttentionSetup attention_setup(const benchmark::State& state, const QuantFormat& quant = {});

using AttentionCases = std::vector<std::unique_ptr<AttentionCase>>;
/// Of random numbers, as many as lie beyond the GPU's cache. They stay until others are asked for: Google Benchmark
/// calls a benchmark several times to find its number of iterations.
const AttentionCases& attention_cases(const AttentionSetup& setup);

/// Bytes are those of the weights as they are stored.
void time_linear(benchmark::State& state, std::int64_t tokens, std::int64_t outputs, std::int64_t inputs,
                 const QuantFormat& quant = {});

/// Bytes are those of the cache as it is stored; of values that sparse attention passes over, neither bytes nor
/// multiply-adds count.
void time_attention(benchmark::State& state, const AttentionSetup& setup, float sparsity = 1.0F);

/// Bytes: keys and values of the new tokens, read plain and written as they are stored.
void time_append_kv(benchmark::State& state, const AttentionSetup& setup);

}  // namespace flexgen::gpu

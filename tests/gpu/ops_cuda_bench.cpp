// Checks every GPU kernel against its host reference, then times the kernels that a sweep lives on.
//
//   ops_cuda_bench [--check]     --check: no timings. Exit status 1 when a result is wrong.
#include <algorithm>
#include <functional>
#include <memory>

#include "gpu_case.hpp"

namespace flexgen::gpu {
namespace {

struct Timing {
  std::string name;
  double microseconds;
  double rate;  // GB/s or TFLOP/s
  const char* unit;
};

/// Mean time of one call, over enough calls to last some milliseconds. `body` gets the number of the call.
double microseconds_of(const OpContext& context, const std::function<void(int)>& body) {
  auto stream = static_cast<cudaStream_t>(context.stream);
  cudaEvent_t begin, end;
  FLEXGEN_CUDA_CALL(cudaEventCreate(&begin));
  FLEXGEN_CUDA_CALL(cudaEventCreate(&end));
  float milliseconds = 0.0F;
  int calls = 8;
  for (;; calls *= 4) {
    FLEXGEN_CUDA_CALL(cudaEventRecord(begin, stream));
    for (int i = 0; i < calls; ++i) body(i);
    FLEXGEN_CUDA_CALL(cudaEventRecord(end, stream));
    FLEXGEN_CUDA_CALL(cudaEventSynchronize(end));
    FLEXGEN_CUDA_CALL(cudaEventElapsedTime(&milliseconds, begin, end));
    if (milliseconds > 20.0F || calls > 4000) break;
  }
  FLEXGEN_CUDA_CALL(cudaEventDestroy(begin));
  FLEXGEN_CUDA_CALL(cudaEventDestroy(end));
  return milliseconds * 1e3 / calls;
}

/// Read + write rate of a large copy within the GPU, GB/s.
double copy_rate(const OpContext& context) {
  const std::uint64_t bytes = 1ULL << 30;
  const Buffer from(MemoryKind::device, bytes, kGpu), to(MemoryKind::device, bytes, kGpu);
  FLEXGEN_CUDA_CALL(cudaMemset(from.data(), 0, bytes));
  const double time = microseconds_of(context, [&](int) {
    FLEXGEN_CUDA_CALL(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice,
                                      static_cast<cudaStream_t>(context.stream)));
  });
  return 2.0 * bytes / time * 1e-3;
}

/// Attention of equal rows; several caches take turns, so that none of them is still in the GPU's cache.
Timing time_attention(const OpContext& context, int num_rows, RowShape shape, int heads, int head_dim, DType dtype,
                      AttentionKernel kernel = AttentionKernel::automatic) {
  const std::vector<RowShape> rows(num_rows, shape);
  std::vector<std::unique_ptr<AttentionCase>> cases;
  double total = 0.0;
  do {
    cases.push_back(std::make_unique<AttentionCase>(rows, heads, head_dim, dtype));
    cases.back()->cache_memory().fill(0x11);  // small finite numbers in every dtype
    cases.back()->cache_memory().upload();
    total += cases.back()->cache_bytes();
  } while (total < 512e6);
  TwinMatrix q(cases[0]->num_tokens(), cases[0]->cols(), dtype, 2 * cases[0]->cols());
  TwinMatrix out(cases[0]->num_tokens(), cases[0]->cols(), dtype);
  q.randomise(1, 1.0F);
  const double time = microseconds_of(context, [&](int i) {
    AttentionCase& work = *cases[i % cases.size()];
    attention_cuda_with(context, {work.batch(true), q.device(), work.cache(true), 0.1F, out.device()}, kernel);
  });
  const bool decode = shape.count == 1;
  std::string name = "attention " + std::string(dtype_name(dtype)) + " rows " + std::to_string(num_rows) + " heads " +
                     std::to_string(heads) + " x " + std::to_string(head_dim) + " start " +
                     std::to_string(shape.start) + " count " + std::to_string(shape.count) +
                     (kernel == AttentionKernel::per_token ? " per token" : "");
  return {std::move(name), time, decode ? cases[0]->cache_bytes() / time * 1e-3 : cases[0]->operations() / time * 1e-6,
          decode ? "GB/s" : "TFLOP/s"};
}

Timing time_append(const OpContext& context, int num_rows, RowShape shape) {
  AttentionCase work(std::vector<RowShape>(num_rows, shape), 32, 128, DType::float16);
  TwinMatrix qkv(work.num_tokens(), 3 * work.cols(), DType::float16);
  const double time = microseconds_of(context, [&](int) {
    append_kv_cuda(context, work.batch(true), qkv.device().col_range(work.cols(), work.cols()),
                   qkv.device().col_range(2 * work.cols(), work.cols()), work.cache(true));
  });
  const double bytes = 2.0 * 2.0 * work.num_tokens() * work.cols() * 2;  // k and v, read and written
  return {"append_kv float16 tokens " + std::to_string(work.num_tokens()) + " heads 32 x 128", time,
          bytes / time * 1e-3, "GB/s"};
}

Timing time_layer_norm(const OpContext& context, std::int64_t tokens, std::int64_t hidden) {
  TwinMatrix x(tokens, hidden, DType::float16), out(tokens, hidden, DType::float16);
  TwinMatrix gamma(1, hidden, DType::float16), beta(1, hidden, DType::float16);
  x.randomise(1, 1.0F);
  const double time = microseconds_of(context, [&](int) {
    layer_norm_cuda(context, {x.device(), gamma.device(), beta.device(), 1e-5F, out.device()});
  });
  return {"layer_norm float16 " + std::to_string(tokens) + " x " + std::to_string(hidden), time,
          4.0 * tokens * hidden / time * 1e-3, "GB/s"};
}

Timing time_argmax(const OpContext& context, std::int64_t rows) {
  TwinMatrix logits(rows, 50272, DType::float32);
  logits.randomise(1, 1.0F);
  const Buffer token(MemoryKind::device, rows * sizeof(std::int32_t), kGpu);
  const double time = microseconds_of(
      context, [&](int) { argmax_rows_cuda(context, logits.device(), reinterpret_cast<std::int32_t*>(token.data())); });
  return {"argmax_rows " + std::to_string(rows) + " x 50272", time, 4.0 * rows * 50272 / time * 1e-3, "GB/s"};
}

void time_ops(const OpContext& context) {
  std::vector<Timing> timings;
  const double copy = copy_rate(context);
  for (const int rows : {1, 8, 64}) {
    for (const int heads : {32, 56})
      timings.push_back(time_attention(context, rows, {543, 1}, heads, 128, DType::float16));
  }
  timings.push_back(time_attention(context, 32, {511, 1}, 40, 128, DType::bfloat16));
  timings.push_back(time_attention(context, 32, {543, 1}, 32, 80, DType::float16));
  timings.push_back(time_attention(context, 32, {543, 1}, 32, 64, DType::float16));
  timings.push_back(time_attention(context, 8, {2000, 1}, 32, 128, DType::float16));
  timings.push_back(time_attention(context, 8, {543, 1}, 32, 128, DType::float32));
  timings.push_back(time_attention(context, 8, {0, 512}, 32, 128, DType::float16));
  timings.push_back(time_attention(context, 32, {0, 512}, 32, 128, DType::float16));
  timings.push_back(time_attention(context, 2, {0, 2048}, 32, 128, DType::float16));
  timings.push_back(time_attention(context, 8, {512, 512}, 32, 128, DType::float16));
  timings.push_back(time_attention(context, 8, {0, 512}, 32, 80, DType::float16));
  timings.push_back(time_attention(context, 8, {0, 512}, 32, 64, DType::bfloat16));
  timings.push_back(time_attention(context, 8, {0, 512}, 32, 128, DType::float16, AttentionKernel::per_token));
  timings.push_back(time_attention(context, 8, {0, 512}, 32, 128, DType::float32));
  timings.push_back(time_append(context, 64, {543, 1}));
  timings.push_back(time_append(context, 8, {0, 512}));
  timings.push_back(time_layer_norm(context, 64, 4096));
  timings.push_back(time_layer_norm(context, 16384, 7168));
  timings.push_back(time_argmax(context, 8));
  timings.push_back(time_argmax(context, 64));

  std::printf("\n%s, device copy %.0f GB/s (read + write)\n", device_description(kGpu).c_str(), copy);
  for (const Timing& t : timings) {
    std::printf("%-78s %9.1f us %8.1f %s", t.name.c_str(), t.microseconds, t.rate, t.unit);
    if (t.unit[0] == 'G') std::printf("  %3.0f %% of copy", 100.0 * t.rate / copy);
    std::printf("\n");
  }
}

int run(bool only_check) {
  use_device(kGpu);
  cudaStream_t stream = nullptr;
  FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Buffer scratch(MemoryKind::device, attention_workspace_bytes_cuda(64, 56, 256), kGpu);
  Workspace workspace(scratch.data(), scratch.size_bytes());
  OpContext context;
  context.device = kGpu;
  context.stream = stream;
  context.workspace = &workspace;

  Report report;
  check_ops(context, report);
  if (!only_check) time_ops(context);
  FLEXGEN_CUDA_CALL(cudaStreamDestroy(stream));
  std::printf("%s\n", report.failures() == 0 ? "all results agree" : "WRONG RESULTS, see above");
  return report.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace flexgen::gpu

int main(int argc, char** argv) {
  try {
    return flexgen::gpu::run(argc > 1 && std::string(argv[1]) == "--check");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ops_cuda_bench: %s\n", error.what());
    return 1;
  }
}

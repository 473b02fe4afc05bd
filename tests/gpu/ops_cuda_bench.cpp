// Checks every GPU kernel against its host reference, then times the kernels that a sweep lives on.
//
//   ops_cuda_bench [--check | --only NAME]     --check: no timings; --only: no checks, timings of one op (attention,
//                                              linear, append_kv, layer_norm, argmax_rows, dequantize,
//                                              compressed_attention, compressed_append, compressed_linear).
// Exit status 1 when a result is wrong.
#include <memory>

#include "gpu_case.hpp"
#include "gpu_timing.hpp"

namespace flexgen::gpu {
namespace {

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

/// Weights take turns, so that none of them is still in the GPU's cache; the rate counts weights alone.
Timing time_linear(const OpContext& context, std::int64_t tokens, std::int64_t outputs, std::int64_t inputs, bool few) {
  std::vector<std::unique_ptr<TwinMatrix>> weights;
  double total = 0.0;
  do {
    weights.push_back(std::make_unique<TwinMatrix>(outputs, inputs, DType::float16));
    FLEXGEN_CUDA_CALL(cudaMemset(weights.back()->memory().device(), 0x11, weights.back()->memory().size_bytes()));
    total += weights.back()->memory().size_bytes();
  } while (total < 300e6);
  TwinMatrix x(tokens, inputs, DType::float16), out(tokens, outputs, DType::float16), bias(1, outputs, DType::float16);
  x.randomise(1, 1.0F);
  const double time = microseconds_of(context, [&](int i) {
    const LinearArgs args{
        x.device(), weights[i % weights.size()]->device(), bias.device(), Activation::relu, std::nullopt, out.device()};
    few ? linear_few_tokens_cuda(context, args) : linear_cublas(context, args);
  });
  return {"linear float16 " + std::to_string(tokens) + " x " + std::to_string(outputs) + " x " +
              std::to_string(inputs) + (few ? ", few tokens" : ", cuBLASLt"),
          time, 2.0 * outputs * inputs / time * 1e-3, "GB/s"};
}

/// A whole decoder layer of a decode step, kernels one after another; the rate counts weights and cache.
Timing time_layer(const OpContext& context, int num_rows, std::int64_t hidden, int heads, bool few) {
  const DType half = DType::float16;
  std::vector<std::unique_ptr<TwinMatrix>> weights;
  const auto weight = [&](std::int64_t rows, std::int64_t cols) {
    weights.push_back(std::make_unique<TwinMatrix>(rows, cols, half));
    FLEXGEN_CUDA_CALL(cudaMemset(weights.back()->memory().device(), 0x11, weights.back()->memory().size_bytes()));
    return weights.back()->device();
  };
  const MatrixView qkv = weight(3 * hidden, hidden), proj = weight(hidden, hidden);
  const MatrixView fc1 = weight(4 * hidden, hidden), fc2 = weight(hidden, 4 * hidden);
  const MatrixView gamma = weight(1, hidden), bias = weight(1, 4 * hidden);
  AttentionCase work(std::vector<RowShape>(num_rows, {527, 1}), heads, hidden / heads, half);
  work.cache_memory().fill(0x11);
  work.cache_memory().upload();
  TwinMatrix x(num_rows, hidden, half), y(num_rows, hidden, half), mixed(num_rows, 3 * hidden, half),
      inner(num_rows, 4 * hidden, half);
  x.randomise(1, 1.0F);
  const auto product = [&](const MatrixView& in, const MatrixView& w, Activation activation, bool residual,
                           const MatrixView& out) {
    const LinearArgs args{in, w, bias.col_range(0, w.rows), activation, residual ? std::optional(out) : std::nullopt,
                          out};
    few&& linear_few_tokens_takes(context, args) ? linear_few_tokens_cuda(context, args) : linear_cublas(context, args);
  };
  const double time = microseconds_of(context, [&](int) {
    const MatrixView q = mixed.device();
    layer_norm_cuda(context, {x.device(), gamma, gamma, 1e-5F, y.device()});
    product(y.device(), qkv, Activation::none, false, q);
    append_kv_cuda(context, work.batch(true), q.col_range(hidden, hidden), q.col_range(2 * hidden, hidden),
                   work.cache(true));
    attention_cuda(context, {work.batch(true), q.col_range(0, hidden), work.cache(true), 0.1F, y.device()});
    product(y.device(), proj, Activation::none, true, x.device());
    layer_norm_cuda(context, {x.device(), gamma, gamma, 1e-5F, y.device()});
    product(y.device(), fc1, Activation::relu, false, inner.device());
    product(inner.device(), fc2, Activation::none, true, x.device());
  });
  return {"layer float16 rows " + std::to_string(num_rows) + " hidden " + std::to_string(hidden) +
              (few ? ", few tokens" : ", cuBLASLt"),
          time, (24.0 * hidden * hidden + work.cache_bytes()) / time * 1e-3, "GB/s"};
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

void time_attentions(const OpContext& context, std::vector<Timing>& timings) {
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
}

void time_linears(const OpContext& context, std::vector<Timing>& timings) {
  for (const int rows : {1, 8, 16}) {
    for (const bool few : {true, false}) {
      timings.push_back(time_layer(context, rows, 4096, 32, few));
      timings.push_back(time_layer(context, rows, 7168, 56, few));
    }
  }
  for (const std::int64_t tokens : {1, 8, 16}) {
    for (const auto& [outputs, inputs] : {std::pair{12288, 4096},
                                          {4096, 4096},
                                          {16384, 4096},
                                          {4096, 16384},
                                          {50272, 4096},
                                          {21504, 7168},
                                          {7168, 28672}}) {
      for (const bool few : {true, false}) {
        if (few && outputs > 4224) continue;  // past what it takes on the GPUs at hand
        timings.push_back(time_linear(context, tokens, outputs, inputs, few));
      }
    }
  }
}

void time_ops(const OpContext& context, std::string_view only) {
  std::vector<Timing> timings;
  const double copy = copy_rate(context);
  const auto wanted = [&](std::string_view op) { return only.empty() || op == only; };
  if (wanted("attention")) time_attentions(context, timings);
  if (wanted("linear")) time_linears(context, timings);
  if (wanted("append_kv")) {
    timings.push_back(time_append(context, 64, {543, 1}));
    timings.push_back(time_append(context, 8, {0, 512}));
  }
  if (wanted("layer_norm")) {
    timings.push_back(time_layer_norm(context, 8, 4096));
    timings.push_back(time_layer_norm(context, 64, 4096));
    timings.push_back(time_layer_norm(context, 16384, 7168));
  }
  if (wanted("argmax_rows")) {
    timings.push_back(time_argmax(context, 8));
    timings.push_back(time_argmax(context, 64));
  }

  time_compressed_ops(context, only, timings);

  std::printf("\n%s, device copy %.0f GB/s (read + write)\n", device_description(kGpu).c_str(), copy);
  for (const Timing& t : timings) {
    std::printf("%-78s %9.1f us %8.1f %s", t.name.c_str(), t.microseconds, t.rate, t.unit);
    if (t.unit[0] == 'G') std::printf("  %3.0f %% of copy", 100.0 * t.rate / copy);
    std::printf("\n");
  }
}

int run(bool only_check, std::string_view only) {
  use_device(kGpu);
  cudaStream_t stream = nullptr;
  FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Buffer scratch(MemoryKind::device,
                       attention_workspace_bytes_cuda(64, 56, 256, DType::float16, {4, 64}, 4096) +
                           linear_workspace_bytes_cublas() + largest_plain_weights,
                       kGpu);
  Workspace workspace(scratch.data(), scratch.size_bytes());
  OpContext context;
  context.device = kGpu;
  context.stream = stream;
  context.workspace = &workspace;

  Report report;
  if (only.empty()) {
    check_ops(context, report);
    check_compressed_ops(context, report);
  }
  if (!only_check) time_ops(context, only);
  FLEXGEN_CUDA_CALL(cudaStreamDestroy(stream));
  std::printf("%s\n", report.failures() == 0 ? "all results agree" : "WRONG RESULTS, see above");
  return report.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace flexgen::gpu

int main(int argc, char** argv) {
  try {
    const std::string_view option = argc > 1 ? argv[1] : "";
    return flexgen::gpu::run(option == "--check", option == "--only" && argc > 2 ? argv[2] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ops_cuda_bench: %s\n", error.what());
    return 1;
  }
}

// Timings of the GPU kernels that work on compressed matrices and caches. Rates count stored bytes, and what is read or
// written of plain ones; several inputs take turns, so that none of them is still in the GPU's cache.
#include <memory>

#include "gpu_timing.hpp"
#include "ops/quantize.hpp"

namespace flexgen::gpu {
namespace {

constexpr double kRotatedBytes = 300e6;  // well beyond the GPU's cache

std::string name_of(const QuantFormat& quant) {
  return std::to_string(quant.bits) + " bits / " + std::to_string(quant.group) + " ";
}

/// Compressed matrices in one block of memory, all of the same small finite numbers.
class StoredMatrices {
 public:
  StoredMatrices(std::int64_t rows, std::int64_t cols, const QuantFormat& quant)
      : view_(contiguous_view(nullptr, rows, cols, DType::float16, quant)),
        count_(static_cast<int>(kRotatedBytes / view_.size_bytes()) + 1),
        memory_(MemoryKind::device, view_.size_bytes() * count_, kGpu) {
    FLEXGEN_CUDA_CALL(cudaMemset(memory_.data(), 0x11, memory_.size_bytes()));
  }
  MatrixView at(int i) const {
    MatrixView view = view_;
    view.data = memory_.data() + i % count_ * view_.size_bytes();
    return view;
  }
  double bytes() const { return static_cast<double>(view_.size_bytes()); }

 private:
  MatrixView view_;
  int count_;
  Buffer memory_;
};

Timing time_dequantize(const OpContext& context, std::int64_t rows, std::int64_t cols, const QuantFormat& quant) {
  const StoredMatrices from(rows, cols, quant);
  TwinMatrix to(rows, cols, DType::float16);
  const double time = microseconds_of(context, [&](int i) { dequantize_rows_cuda(context, from.at(i), to.device()); });
  return {"dequantize_rows float16 " + name_of(quant) + std::to_string(rows) + " x " + std::to_string(cols), time,
          (from.bytes() + 2.0 * rows * cols) / time * 1e-3, "GB/s"};
}

Timing time_linear(const OpContext& context, std::int64_t tokens, std::int64_t outputs, std::int64_t inputs,
                   const QuantFormat& quant) {
  const StoredMatrices weights(outputs, inputs, quant);
  TwinMatrix x(tokens, inputs, DType::float16), out(tokens, outputs, DType::float16), bias(1, outputs, DType::float16);
  x.randomise(1, 1.0F);
  const double time = microseconds_of(context, [&](int i) {
    linear(context, {x.device(), weights.at(i), bias.device(), Activation::relu, std::nullopt, out.device()});
  });
  return {"linear float16 " + name_of(quant) + std::to_string(tokens) + " x " + std::to_string(outputs) + " x " +
              std::to_string(inputs),
          time, weights.bytes() / time * 1e-3, "GB/s"};
}

Timing time_attention(const OpContext& context, int num_rows, RowShape shape, int heads, int head_dim, DType dtype,
                      const QuantFormat& quant) {
  std::vector<std::unique_ptr<AttentionCase>> cases;
  double total = 0.0;
  do {
    cases.push_back(
        std::make_unique<AttentionCase>(std::vector<RowShape>(num_rows, shape), heads, head_dim, dtype, 1, 0, quant));
    cases.back()->cache_memory().fill(0x11);
    cases.back()->cache_memory().upload();
    total += cases.back()->cache_bytes();
  } while (total < kRotatedBytes);
  TwinMatrix q(cases[0]->num_tokens(), cases[0]->cols(), dtype, 2 * cases[0]->cols());
  TwinMatrix out(cases[0]->num_tokens(), cases[0]->cols(), dtype);
  q.randomise(1, 1.0F);
  const double time = microseconds_of(context, [&](int i) {
    AttentionCase& work = *cases[i % cases.size()];
    attention_cuda(context, {work.batch(true), q.device(), work.cache(true), 0.1F, out.device()});
  });
  const bool decode = shape.count == 1;
  return {"attention " + std::string(dtype_name(dtype)) + " " + name_of(quant) + "rows " + std::to_string(num_rows) +
              " heads " + std::to_string(heads) + " x " + std::to_string(head_dim) + " start " +
              std::to_string(shape.start) + " count " + std::to_string(shape.count),
          time, decode ? cases[0]->cache_bytes() / time * 1e-3 : cases[0]->operations() / time * 1e-6,
          decode ? "GB/s" : "TFLOP/s"};
}

Timing time_append(const OpContext& context, int num_rows, RowShape shape, const QuantFormat& quant) {
  AttentionCase work(std::vector<RowShape>(num_rows, shape), 32, 128, DType::float16, 1, 0, quant);
  TwinMatrix qkv(work.num_tokens(), 3 * work.cols(), DType::float16);
  qkv.randomise(1, 1.0F);
  const double time = microseconds_of(context, [&](int) {
    append_kv_cuda(context, work.batch(true), qkv.device().col_range(work.cols(), work.cols()),
                   qkv.device().col_range(2 * work.cols(), work.cols()), work.cache(true));
  });
  const double bytes = work.num_tokens() * (4.0 * work.cols() + 32.0 * quant.head_position_bytes(128));
  return {"append_kv float16 " + name_of(quant) + "tokens " + std::to_string(work.num_tokens()) + " heads 32 x 128",
          time, bytes / time * 1e-3, "GB/s"};
}

}  // namespace

void time_compressed_ops(const OpContext& context, std::string_view only, std::vector<Timing>& timings) {
  const QuantFormat formats[] = {{4, 64}, {8, 64}};
  const auto wanted = [&](std::string_view op) { return only.empty() || op == only; };
  for (const QuantFormat& quant : formats) {
    if (wanted("dequantize")) {
      for (const auto& [rows, cols] :
           {std::pair{4096, 4096}, {12288, 4096}, {16384, 4096}, {28672, 7168}, {50272, 7168}})
        timings.push_back(time_dequantize(context, rows, cols, quant));
    }
    if (wanted("compressed_attention")) {
      for (const int rows : {1, 8, 64, 128})
        timings.push_back(time_attention(context, rows, {543, 1}, 32, 128, DType::float16, quant));
      timings.push_back(time_attention(context, 64, {543, 1}, 56, 128, DType::float16, quant));
      timings.push_back(time_attention(context, 64, {543, 1}, 32, 128, DType::float16, {quant.bits, 32}));
      timings.push_back(time_attention(context, 64, {543, 1}, 32, 80, DType::float16, quant));
      timings.push_back(time_attention(context, 64, {543, 1}, 32, 64, DType::float16, quant));
      timings.push_back(time_attention(context, 64, {543, 1}, 32, 128, DType::bfloat16, quant));
      timings.push_back(time_attention(context, 16, {2000, 1}, 32, 128, DType::float16, quant));
      timings.push_back(time_attention(context, 8, {0, 512}, 32, 128, DType::float16, quant));
      timings.push_back(time_attention(context, 32, {0, 512}, 32, 128, DType::float16, quant));
    }
    if (wanted("compressed_append")) {
      timings.push_back(time_append(context, 64, {543, 1}, quant));
      timings.push_back(time_append(context, 8, {0, 512}, quant));
      timings.push_back(time_append(context, 24, {0, 512}, quant));
    }
    if (wanted("compressed_linear")) {
      for (const std::int64_t tokens : {1, 8, 16, 32, 48, 64, 128, 256, 264}) {
        for (const auto& [outputs, inputs] : {std::pair{12288, 4096},
                                              {4096, 4096},
                                              {16384, 4096},
                                              {4096, 16384},
                                              {21504, 7168},
                                              {28672, 7168},
                                              {7168, 28672}})
          timings.push_back(time_linear(context, tokens, outputs, inputs, quant));
      }
    }
  }
}

}  // namespace flexgen::gpu

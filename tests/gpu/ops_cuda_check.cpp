// Correctness of every GPU kernel: random ragged inputs, poisoned outputs, the host reference as oracle.
#include <algorithm>
#include <random>

#include "gpu_check.hpp"

namespace flexgen::gpu {
namespace {

double tolerance(DType dtype) { return dtype == DType::float32 ? 3e-6 : dtype == DType::float16 ? 1.5e-3 : 1.2e-2; }

constexpr DType kDTypes[] = {DType::float32, DType::float16, DType::bfloat16};

std::string label(const char* op, DType dtype, const std::string& rest) {
  return std::string(op) + " " + std::string(dtype_name(dtype)) + " " + rest;
}

void check_layer_norm(const OpContext& context, Report& report, DType dtype) {
  struct Shape {
    std::int64_t rows, hidden, gap, shift;
    bool affine, in_place;
  };
  for (const Shape s :
       {Shape{5, 768, 0, 0, true, false}, Shape{3, 12288, 8, 0, true, true}, Shape{4, 1000, 0, 0, false, false},
        Shape{3, 257, 3, 1, true, false}, Shape{2, 32776, 0, 0, true, false}, Shape{2, 1, 0, 0, true, true}}) {
    TwinMatrix x(s.rows, s.hidden, dtype, s.gap, s.shift), gamma(1, s.hidden, dtype), beta(1, s.hidden, dtype);
    TwinMatrix other(s.rows, s.hidden, dtype, s.gap, s.shift);
    x.randomise(1, 3.0F);
    gamma.randomise(2, 1.0F);
    beta.randomise(3, 1.0F);
    TwinMatrix& out = s.in_place ? x : other;
    LayerNormArgs on_gpu{x.device(), {}, {}, 1e-5F, out.device()}, on_host{x.host(), {}, {}, 1e-5F, out.host()};
    if (s.affine) {
      on_gpu.gamma = gamma.device(), on_gpu.beta = beta.device();
      on_host.gamma = gamma.host(), on_host.beta = beta.host();
    }
    layer_norm_cuda(context, on_gpu);
    synchronise(context);
    layer_norm_reference(on_host);
    report.compare(label("layer_norm", dtype, std::to_string(s.hidden) + (s.in_place ? " in place" : "")), out,
                   tolerance(dtype));
  }
}

void check_rows(const OpContext& context, Report& report, DType dtype) {
  for (const std::int64_t cols : {256, 1001}) {
    const std::int64_t rows = 37, table_rows = 300, gap = cols % 2 == 0 ? 16 : 1;
    TwinMatrix table(table_rows, cols, dtype, gap), out(rows, cols, dtype, gap), y(rows, cols, dtype),
        sum(rows, cols, dtype);
    table.randomise(4, 1.0F);
    y.randomise(5, 1.0F);
    Twin index(rows * sizeof(std::int32_t));
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto value = static_cast<std::int32_t>(i * 7919 % table_rows);
      std::memcpy(index.host() + i * sizeof value, &value, sizeof value);
    }
    index.upload();
    const auto* on_gpu = reinterpret_cast<const std::int32_t*>(index.device());
    const auto* on_host = reinterpret_cast<const std::int32_t*>(index.host());
    const std::string width = std::to_string(cols);

    const auto check_look_ups = [&](const TableView& view, const std::string& which) {
      gather_rows_cuda(context, view, on_gpu, out.device());
      synchronise(context);
      gather_rows_reference(table.host(), on_host, out.host());
      report.compare(label("gather_rows", dtype, which), out, 0.0);
      add_gathered_rows_cuda(context, view, on_gpu, out.device());
      synchronise(context);
      add_gathered_rows_reference(table.host(), on_host, out.host());
      report.compare(label("add_gathered_rows", dtype, which), out, 0.0);
    };
    check_look_ups(table.device(), width);
    for (const std::int64_t cut : {0, 1, 150, 299})
      check_look_ups(CutTable(table.device(), table.host(), cut).view(), width + " cut at " + std::to_string(cut));

    const CutTable pinned(y.device(), y.host(), 0);
    for (const std::int64_t shift : {0, 1, 8}) {
      TwinMatrix same(1, rows * cols - shift, dtype, gap, shift);
      const std::uint64_t skipped = shift * element_bytes(dtype), bytes = same.host().size_bytes();
      copy_bytes_cuda(context, pinned.view().rest.data + skipped, same.device().data, bytes);
      synchronise(context);
      std::memcpy(same.host().data, y.host().data + skipped, bytes);
      report.compare(label("copy_bytes", dtype, width + " from " + std::to_string(shift)), same, 0.0);
    }

    add_cuda(context, out.device(), y.device(), sum.device());
    synchronise(context);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) {
        const float total = element(out.host().row(r), dtype, c) + element(y.host().row(r), dtype, c);
        convert_elements(reinterpret_cast<const std::byte*>(&total), DType::float32,
                         sum.host().row(r) + c * element_bytes(dtype), dtype, 1);
      }
    }
    report.compare(label("add", dtype, width), sum, 0.0);
  }
}

void check_argmax(const OpContext& context, Report& report) {
  for (const std::int64_t gap : {0, 1}) {
    const std::int64_t rows = 9, vocab = gap == 0 ? 50272 : 4099;
    TwinMatrix logits(rows, vocab, DType::float32, gap);
    logits.randomise(6, 4.0F);
    auto* row = reinterpret_cast<float*>(logits.host().data);
    const auto at = [&](std::int64_t r, std::int64_t c) -> float& { return row[r * (vocab + gap) + c]; };
    at(1, 17) = at(1, 3000) = 9.0F;            // equals: the lower index
    at(2, vocab - 1) = 9.0F;                   // the last one
    at(3, 2000) = NAN;                         // -1
    at(4, vocab - 1) = NAN;                    // -1
    std::fill_n(&at(5, 0), vocab, -INFINITY);  // 0
    at(6, 5) = INFINITY;
    std::fill_n(&at(7, 0), vocab, -0.0F), at(7, 900) = 0.0F;  // equal zeros: 0
    logits.memory().upload();
    Twin token(rows * sizeof(std::int32_t));
    argmax_rows_cuda(context, logits.device(), reinterpret_cast<std::int32_t*>(token.device()));
    synchronise(context);
    argmax_rows_reference(logits.host(), reinterpret_cast<std::int32_t*>(token.host()));
    const std::vector<std::byte> got = token.download();
    report.equal_bytes("argmax_rows " + std::to_string(vocab), got, {token.host(), token.size_bytes()});
  }
}

void check_log_probabilities(const OpContext& context, Report& report) {
  for (const std::int64_t gap : {0, 1}) {
    const std::int64_t rows = 7, vocab = gap == 0 ? 50272 : 4099;
    TwinMatrix logits(rows, vocab, DType::float32, gap), score(rows, 1, DType::float32);
    logits.randomise(6, 4.0F);
    auto* row = reinterpret_cast<float*>(logits.host().data);
    std::fill_n(row + 4 * (vocab + gap), vocab, -3.0F);  // all as likely
    row[5 * (vocab + gap) + 11] = 1e4F;                  // no other is
    row[6 * (vocab + gap) + 11] = -1e4F;
    logits.memory().upload();
    Twin target(static_cast<std::uint64_t>(rows) * sizeof(std::int32_t));
    const auto last = static_cast<std::int32_t>(vocab - 1);
    const std::int32_t targets[rows] = {-1, 0, last, 1000, 1000, 11, 11};
    std::memcpy(target.host(), targets, sizeof(targets));
    target.upload();
    log_probabilities_cuda(context, logits.device(), reinterpret_cast<const std::int32_t*>(target.device()),
                           reinterpret_cast<float*>(score.device().data));
    synchronise(context);
    log_probabilities_reference(logits.host(), targets, reinterpret_cast<float*>(score.host().data));
    report.compare("log_probabilities " + std::to_string(vocab), score, 1e-5);
  }
}

/// Both matrix products of the GPU against the three loops.
void check_linear(const OpContext& context, Report& report, DType dtype) {
  const LinearShape shapes[] = {
      {1, 100, 640, Activation::none, true, false, false}, {8, 40, 1088, Activation::relu, true, false, false},
      {7, 33, 64, Activation::gelu, true, true, false},    {9, 96, 4096, Activation::none, true, true, false},
      {16, 31, 512, Activation::none, false, false, true}, {32, 65, 576, Activation::relu, false, false, false},
      {19, 130, 1024, Activation::none, true, true, false}};
  for (const LinearShape& shape : shapes) {
    for (const bool few : {false, true}) {
      const DType out_dtype = shape.wide_out ? DType::float32 : dtype;
      TwinMatrix x(shape.tokens, shape.inputs, dtype, 64), weight(shape.outputs, shape.inputs, dtype);
      TwinMatrix bias(1, shape.outputs, dtype), out(shape.tokens, shape.outputs, out_dtype, 8);
      x.randomise(21, 1.0F);
      weight.randomise(22, 1.0F);
      bias.randomise(23, 1.0F);
      if (shape.has_residual) out.randomise(24, 4.0F);
      const LinearArgs on_gpu = shape.args(x.device(), weight.device(), bias.device(), out.device());
      if (few && !linear_few_tokens_takes(context, on_gpu)) continue;
      few ? linear_few_tokens_cuda(context, on_gpu) : linear_cublas(context, on_gpu);
      synchronise(context);
      linear_reference(shape.args(x.host(), weight.host(), bias.host(), out.host()));
      report.compare(label("linear", dtype, shape.name() + (few ? ", few tokens" : "")), out, tolerance(dtype));
    }
  }
}

void check_append(const OpContext& context, Report& report, const AttentionShape& shape, DType dtype) {
  AttentionCase work(shape.rows, shape.heads, shape.head_dim, dtype, shape.segments, shape.gap);
  TwinMatrix qkv(work.num_tokens(), 3 * work.cols(), dtype);
  qkv.randomise(8, 1.0F);
  append_kv_cuda(context, work.batch(Side::device), qkv.device().col_range(work.cols(), work.cols()),
                 qkv.device().col_range(2 * work.cols(), work.cols()), work.cache(Side::device));
  synchronise(context);
  append_kv_reference(work.batch(Side::host), qkv.host().col_range(work.cols(), work.cols()),
                      qkv.host().col_range(2 * work.cols(), work.cols()), work.cache(Side::host));
  const std::vector<std::byte> got = work.cache_memory().download();
  report.equal_bytes(label("append_kv", dtype, shape.name), got,
                     {work.cache_memory().host(), work.cache_memory().size_bytes()});
}

void check_attention(const OpContext& context, Report& report, const AttentionShape& shape, DType dtype,
                     AttentionKernel kernel, const char* kernel_name) {
  AttentionCase work(shape.rows, shape.heads, shape.head_dim, dtype, shape.segments, shape.gap);
  work.randomise_cache(10, 1.0F);
  TwinMatrix q(work.num_tokens(), work.cols(), dtype, 2 * work.cols()), out(work.num_tokens(), work.cols(), dtype, 16);
  q.randomise(9, 4.0F);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  attention_cuda_with(context, {work.batch(Side::device), q.device(), work.cache(Side::device), scale, out.device()},
                      kernel);
  synchronise(context);
  attention_reference({work.batch(Side::host), q.host(), work.cache(Side::host), scale, out.host()});
  report.compare(label("attention", dtype, std::string(shape.name) + kernel_name), out, tolerance(dtype));
}

/// How the weights of sparse attention are spread. With recurring keys and with equal weights, the chosen positions end
/// among many of one weight, and must be the lowest of them.
enum class Weights : std::uint8_t { random, recurring, equal };

/// Every seventh key is the same.
void repeat_keys(AttentionCase& work, const AttentionShape& shape, DType dtype, const QuantFormat& quant) {
  constexpr std::int64_t kPeriod = 7;
  const std::int64_t unit = quant.is_none() ? element_bytes(dtype) : 1;
  const std::int64_t key_bytes = quant.is_none() ? shape.head_dim * unit : quant.code_bytes(shape.head_dim);
  const KvView cache = work.cache(Side::host);
  for (std::size_t i = 0; i < shape.rows.size() * shape.heads; ++i) {
    const KvHead& head = cache.host_heads[i];
    const RowShape& row = shape.rows[i / shape.heads];
    for (std::int64_t p = kPeriod; p < row.start + row.count; ++p) {
      const std::byte* from = head.base + p % kPeriod * head.position_stride * unit;
      std::byte* to = head.base + p * head.position_stride * unit;
      std::memcpy(to, from, key_bytes);
      if (quant.is_none()) continue;
      std::memcpy(to + head.k_parameters, from + head.k_parameters, quant.parameter_bytes(shape.head_dim));
    }
  }
  work.cache_memory().upload();
}

/// Some keys' values only. The reference computes in float64: of two weights that differ by less than float32 tells
/// apart, it may choose the other. The inputs, which are the same everywhere, have none such at the limit.
void check_sparse(const OpContext& context, Report& report, const AttentionShape& shape, DType dtype,
                  const QuantFormat& quant, float sparsity, Weights weights = Weights::random) {
  AttentionCase work(shape.rows, shape.heads, shape.head_dim, dtype, shape.segments, shape.gap, quant);
  work.randomise_cache(13, 1.0F);
  if (weights == Weights::recurring) repeat_keys(work, shape, dtype, quant);
  TwinMatrix q(work.num_tokens(), work.cols(), dtype), out(work.num_tokens(), work.cols(), dtype);
  q.randomise(14, weights == Weights::equal ? 0.0F : 8.0F);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  AttentionArgs on_gpu{work.batch(Side::device), q.device(), work.cache(Side::device), scale, out.device()};
  AttentionArgs on_host{work.batch(Side::host), q.host(), work.cache(Side::host), scale, out.host()};
  on_gpu.sparsity = on_host.sparsity = sparsity;
  attention_cuda(context, on_gpu);
  synchronise(context);
  attention_reference(on_host);
  const std::string format =
      quant.is_none() ? "" : ", " + std::to_string(quant.bits) + " bits / " + std::to_string(quant.group);
  const char* kind = weights == Weights::random ? "" : weights == Weights::equal ? ", equal" : ", recurring";
  report.compare(
      label("sparse", dtype, std::string(shape.name) + ", " + std::to_string(sparsity).substr(0, 5) + format + kind),
      out, tolerance(dtype));
}

/// A row's bytes are the same alone and beside other rows.
void check_independence(const OpContext& context, Report& report, DType dtype, float sparsity = 1.0F) {
  const RowShape row{900, 1};
  std::vector<std::byte> results[2];
  for (const bool alone : {true, false}) {
    std::vector<RowShape> rows{row};
    if (!alone) rows.insert(rows.end(), {{3, 1}, {1700, 1}, {0, 40}});
    AttentionCase work(rows, 4, 64, dtype);
    work.randomise_cache(11, 1.0F);
    TwinMatrix q(work.num_tokens(), work.cols(), dtype), out(work.num_tokens(), work.cols(), dtype);
    q.randomise(12, 4.0F);
    attention_cuda(context,
                   {work.batch(Side::device), q.device(), work.cache(Side::device), 0.125F, out.device(), sparsity});
    synchronise(context);
    results[alone] = out.memory().download();
    results[alone].resize(work.cols() * element_bytes(dtype));
  }
  report.equal_bytes(label("attention", dtype, "row alone = row among others"), results[0], results[1]);
}

const std::vector<AttentionShape>& attention_shapes() {
  static const std::vector<RowShape> long_decode{{768, 1}, {5, 1}, {1100, 1}, {2047, 1}, {4500, 1}};
  static const std::vector<RowShape> chunks{{37, 70}, {64, 64}, {200, 3}, {0, 17}};
  static const std::vector<AttentionShape> shapes{
      {kDecodeRows, 4, 128, 1, 0, "decode, 128"},       {kDecodeRows, 3, 80, 1, 0, "decode, 80"},
      {kDecodeRows, 2, 64, 2, 0, "decode, 64, 2 runs"}, {kDecodeRows, 2, 256, 1, 0, "decode, 256"},
      {kDecodeRows, 2, 20, 1, 0, "decode, 20"},         {kDecodeRows, 2, 64, 1, 1, "decode, 64, unaligned"},
      {long_decode, 2, 96, 1, 0, "long decode, 96"},    {long_decode, 2, 32, 1, 0, "long decode, 32"},
      {kPromptRows, 2, 128, 1, 0, "prompts, 128"},      {kPromptRows, 3, 80, 3, 0, "prompts, 80, 3 runs"},
      {kPromptRows, 2, 64, 1, 8, "prompts, 64"},        {kPromptRows, 2, 40, 1, 0, "prompts, 40"},
      {kPromptRows, 1, 20, 1, 0, "prompts, 20"},        {kPromptRows, 1, 160, 1, 0, "prompts, 160"},
      {chunks, 2, 128, 2, 0, "chunks, 128, 2 runs"},    {chunks, 2, 96, 1, 0, "chunks, 96"},
      {kMixedRows, 2, 64, 1, 0, "mixed, 64"},           {kMixedRows, 2, 128, 1, 0, "mixed, 128"},
      {kMixedRows, 2, 18, 1, 0, "mixed, 18"},
  };
  return shapes;
}

template <auto kCheck>
void in_every_dtype(const OpContext& context, Report& report) {
  for (const DType dtype : kDTypes) kCheck(context, report, dtype);
}

void check_appends(const OpContext& context, Report& report, DType dtype) {
  for (const AttentionShape& shape : attention_shapes()) check_append(context, report, shape, dtype);
}

void check_attentions(const OpContext& context, Report& report, DType dtype) {
  const std::vector<AttentionShape>& shapes = attention_shapes();
  for (const AttentionShape& shape : shapes)
    check_attention(context, report, shape, dtype, AttentionKernel::automatic, "");
  check_attention(context, report, shapes[8], dtype, AttentionKernel::per_token, ", per token");
  check_attention(context, report, shapes[14], dtype, AttentionKernel::per_token, ", per token");
  check_attention(context, report, shapes[17], dtype, AttentionKernel::general, ", general");
  check_independence(context, report, dtype);
}

void check_sparse_attentions(const OpContext& context, Report& report, DType dtype) {
  const std::vector<AttentionShape>& shapes = attention_shapes();
  const AttentionShape edges{
      {{30, 1}, {31, 1}, {32, 1}, {254, 1}, {255, 1}, {256, 1}, {2000, 1}, {1, 1}}, 2, 128, 1, 0, "edges, 128"};
  for (const float sparsity : {0.1F, 0.5F}) {
    for (const int i : {0, 1, 2, 3, 4, 5, 6, 7, 16, 18}) check_sparse(context, report, shapes[i], dtype, {}, sparsity);
    for (const QuantFormat& quant : {QuantFormat{4, 64}, {4, 32}, {8, 64}, {8, 128}})
      for (const int i : {0, 1, 2, 3, 4, 5}) check_sparse(context, report, shapes[i], dtype, quant, sparsity);
    for (const QuantFormat& quant : {QuantFormat{}, {4, 128}, {8, 32}})
      for (const int i : {0, 4, 6})
        for (const Weights weights : {Weights::recurring, Weights::equal})
          check_sparse(context, report, shapes[i], dtype, quant, sparsity, weights);
  }
  for (const float sparsity : {0.004F, 0.25F, 0.999F})
    for (const QuantFormat& quant : {QuantFormat{}, {4, 64}, {8, 64}})
      check_sparse(context, report, edges, dtype, quant, sparsity);
  for (const QuantFormat& quant : {QuantFormat{}, {4, 64}})
    check_sparse(context, report, shapes[0], dtype, quant, 1.0F);
  check_independence(context, report, dtype, 0.2F);
}

constexpr CheckGroup kGroups[] = {{"argmax_rows", check_argmax},
                                  {"log_probabilities", check_log_probabilities},
                                  {"layer_norm", in_every_dtype<check_layer_norm>},
                                  {"rows", in_every_dtype<check_rows>},
                                  {"linear", in_every_dtype<check_linear>},
                                  {"append_kv", in_every_dtype<check_appends>},
                                  {"attention", in_every_dtype<check_attentions>},
                                  {"sparse_attention", in_every_dtype<check_sparse_attentions>}};

}  // namespace

std::span<const CheckGroup> op_checks() { return kGroups; }

}  // namespace flexgen::gpu

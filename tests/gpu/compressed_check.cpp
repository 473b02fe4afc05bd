// Correctness of the GPU kernels that work on compressed matrices and caches, against the host references.
#include <algorithm>

#include "gpu_check.hpp"
#include "ops/quantize.hpp"

namespace flexgen::gpu {
namespace {

constexpr QuantFormat kFormats[] = {{4, 64}, {4, 32}, {4, 128}, {8, 64}, {8, 32}, {8, 128}};

double tolerance(DType dtype) { return dtype == DType::float32 ? 5e-6 : dtype == DType::float16 ? 2e-3 : 1.2e-2; }

std::string label(const char* op, DType dtype, const QuantFormat& quant, const std::string& rest) {
  return std::string(op) + " " + std::string(dtype_name(dtype)) + " " + std::to_string(quant.bits) + " bits / " +
         std::to_string(quant.group) + " " + rest;
}

/// A compressed matrix on both sides, poisoned between rows.
class TwinStored {
 public:
  TwinStored(std::int64_t rows, std::int64_t cols, DType dtype, const QuantFormat& quant, std::uint64_t seed,
             std::int64_t gap_bytes = 0)
      : memory_(rows * (quant.row_bytes(cols) + gap_bytes)), rows_(rows), cols_(cols), dtype_(dtype), quant_(quant) {
    stride_ = quant.row_bytes(cols) + gap_bytes;
    memory_.fill(0xff);
    TwinMatrix plain(rows, cols, DType::float32);
    plain.randomise(seed, 1.0F);
    quantize_rows(plain.host(), host(), 0);
    memory_.upload();
  }
  MatrixView host() { return {memory_.host(), rows_, cols_, stride_, dtype_, quant_}; }
  MatrixView device() const { return {memory_.device(), rows_, cols_, stride_, dtype_, quant_}; }

 private:
  Twin memory_;
  std::int64_t rows_, cols_, stride_ = 0;
  DType dtype_;
  QuantFormat quant_;
};

void check_dequantize(const OpContext& context, Report& report, DType dtype, const QuantFormat& quant) {
  struct Shape {
    std::int64_t rows, cols, gap, shift;
  };
  for (const Shape s : {Shape{5, 4096, 0, 0}, Shape{3, 1100, 4, 0}, Shape{7, 77, 1, 1}, Shape{2, 5, 0, 0}}) {
    TwinStored from(s.rows, s.cols, dtype, quant, 31, 16);
    TwinMatrix to(s.rows, s.cols, dtype, s.gap, s.shift);
    dequantize_rows_cuda(context, from.device(), to.device());
    synchronise(context);
    dequantize_rows_reference(from.host(), to.host());
    report.compare(label("dequantize_rows", dtype, quant, std::to_string(s.cols)), to, 0.0);

    const std::int32_t index[] = {static_cast<std::int32_t>(s.rows - 1), 0, 1, 1};
    Twin indices(sizeof index);
    std::memcpy(indices.host(), index, sizeof index);
    indices.upload();
    TwinMatrix out(4, s.cols, dtype, s.gap, s.shift);
    gather_rows_cuda(context, from.device(), reinterpret_cast<const std::int32_t*>(indices.device()), out.device());
    synchronise(context);
    gather_rows_reference(from.host(), index, out.host());
    report.compare(label("gather_rows", dtype, quant, std::to_string(s.cols)), out, 0.0);

    const CutTable parts(from.device(), from.host(), 1);
    gather_rows_cuda(context, parts.view(), reinterpret_cast<const std::int32_t*>(indices.device()), out.device());
    synchronise(context);
    gather_rows_reference(from.host(), index, out.host());
    report.compare(label("gather_rows", dtype, quant, std::to_string(s.cols) + " cut at 1"), out, 0.0);
  }
}

/// Through `linear`: few tokens and, on sm_90, some dozens from codes, others by a plain matrix in the workspace.
void check_linear(const OpContext& context, Report& report, DType dtype, const QuantFormat& quant) {
  const LinearShape shapes[] = {
      {1, 100, 640, Activation::none, true, false, false},   {8, 40, 1152, Activation::relu, true, false, false},
      {7, 33, 128, Activation::gelu, true, true, false},     {9, 96, 4096, Activation::none, true, true, false},
      {16, 31, 512, Activation::none, false, false, true},   {3, 9000, 1408, Activation::none, true, false, false},
      {13, 8470, 256, Activation::relu, true, false, false}, {32, 65, 640, Activation::relu, false, false, false},
      {33, 130, 1024, Activation::none, true, true, false},  {4, 36, 100, Activation::none, true, false, false},
      {64, 257, 128, Activation::none, true, true, false},   {65, 40, 4224, Activation::relu, true, false, false},
      {128, 260, 384, Activation::gelu, true, true, false},  {129, 100, 512, Activation::none, false, false, true},
      {256, 40, 384, Activation::none, true, true, false},   {40, 130, 1000, Activation::relu, true, false, false},
      {257, 130, 128, Activation::none, true, true, false},  {100, 1100, 256, Activation::none, true, false, false},
      {512, 40, 384, Activation::relu, true, false, false},  {513, 130, 128, Activation::none, true, true, false}};
  for (const LinearShape& shape : shapes) {
    if (shape.outputs > 1000 && (quant.group != 64 || dtype == DType::float32)) continue;  // slow references
    TwinMatrix x(shape.tokens, shape.inputs, dtype, 64), bias(1, shape.outputs, dtype);
    TwinMatrix out(shape.tokens, shape.outputs, shape.wide_out ? DType::float32 : dtype, 8);
    TwinStored weight(shape.outputs, shape.inputs, dtype, quant, 22, 16);
    x.randomise(21, 1.0F);
    bias.randomise(23, 1.0F);
    if (shape.has_residual) out.randomise(24, 4.0F);
    const LinearArgs on_gpu = shape.args(x.device(), weight.device(), bias.device(), out.device());
    const bool fused = linear_compressed_takes(context, on_gpu);
    linear(context, on_gpu);
    synchronise(context);
    linear_reference(shape.args(x.host(), weight.host(), bias.host(), out.host()));
    report.compare(label("linear", dtype, quant, shape.name() + (fused ? ", fused" : "")), out, tolerance(dtype));
  }
}

/// Sum of squared errors of a stored run, group by group, against its source.
std::vector<double> group_errors(const MatrixView& from, std::int64_t row, std::int64_t first, std::int64_t count,
                                 const std::byte* codes, const std::byte* parameters, const QuantFormat& quant) {
  std::vector<double> errors(quant.num_groups(count), 0.0);
  for (std::int64_t i = 0; i < count; ++i) {
    const double off = element(from.row(row), from.dtype, first + i) - stored_element(codes, parameters, quant, i);
    errors[i / quant.group] += off * off;
  }
  return errors;
}

/// Rounding may choose another of two codes, or end the refining elsewhere: what counts is that groups are on the whole
/// stored as well as by the reference, none much worse, and that nothing else is written.
void check_append(const OpContext& context, Report& report, const AttentionShape& shape, DType dtype,
                  const QuantFormat& quant) {
  AttentionCase work(shape.rows, shape.heads, shape.head_dim, dtype, shape.segments, shape.gap, quant);
  const std::int64_t cols = work.cols();
  TwinMatrix qkv(work.num_tokens(), 3 * cols, dtype);
  qkv.randomise(8, 1.0F);
  append_kv_cuda(context, work.batch(Side::device), qkv.device().col_range(cols, cols),
                 qkv.device().col_range(2 * cols, cols), work.cache(Side::device));
  synchronise(context);
  const MatrixView k = qkv.host().col_range(cols, cols), v = qkv.host().col_range(2 * cols, cols);
  const BatchView batch = work.batch(Side::host);
  const KvView cache = work.cache(Side::host);
  append_kv_reference(batch, k, v, cache);
  std::vector<std::byte> got = work.cache_memory().download();
  const std::byte* reference = work.cache_memory().host();
  std::vector<std::byte> outside = got;
  double worst = 0.0, total = 0.0, total_expected = 0.0;
  const std::int64_t code_bytes = quant.code_bytes(shape.head_dim), line_bytes = quant.parameter_bytes(shape.head_dim);
  for (std::int32_t row = 0; row < batch.num_rows; ++row) {
    for (std::int32_t t = batch.host_token_offset[row]; t < batch.host_token_offset[row + 1]; ++t) {
      const std::int64_t position = batch.host_start[row] + t - batch.host_token_offset[row];
      for (std::int32_t h = 0; h < shape.heads; ++h) {
        const KvHead& head = cache.host_heads[row * shape.heads + h];
        const std::int64_t at = head.base - reference + position * head.position_stride;
        for (const bool value : {false, true}) {
          const std::int64_t codes = at + (value ? head.v_offset : 0);
          const std::int64_t line = at + (value ? head.v_parameters : head.k_parameters);
          const MatrixView& from = value ? v : k;
          const std::int64_t first = static_cast<std::int64_t>(h) * shape.head_dim;
          const auto found = group_errors(from, t, first, shape.head_dim, &got[codes], &got[line], quant);
          const auto expected =
              group_errors(from, t, first, shape.head_dim, reference + codes, reference + line, quant);
          for (std::size_t g = 0; g < found.size(); ++g) {
            const double excess = (found[g] - expected[g]) / std::max(expected[g], 1e-9);
            if (!(excess <= worst)) worst = std::isnan(excess) ? INFINITY : excess;
            total += found[g], total_expected += expected[g];
          }
          std::fill_n(&outside[codes], code_bytes, std::byte{0xff});
          std::fill_n(&outside[line], line_bytes, std::byte{0xff});
        }
      }
    }
  }
  report.check(label("append_kv", dtype, quant, std::string(shape.name) + ", worst group"), worst, 1.0);
  // bfloat16 has about as many bits as 8-bit codes: a large part of its values lies just between two of them, where
  // rounding decides, and the searches for a group's range part ways more often.
  const double limit = dtype == DType::bfloat16 && quant.bits == 8 ? 0.02 : 0.01;
  report.check(label("append_kv", dtype, quant, shape.name), total / total_expected - 1.0, limit);
  const std::vector<std::byte> poison(outside.size(), std::byte{0xff});
  report.equal_bytes(label("append_kv", dtype, quant, "nothing else written"), outside, poison);
}

void check_attention(const OpContext& context, Report& report, const AttentionShape& shape, DType dtype,
                     const QuantFormat& quant) {
  AttentionCase work(shape.rows, shape.heads, shape.head_dim, dtype, shape.segments, shape.gap, quant);
  work.randomise_cache(10, 1.0F);
  TwinMatrix q(work.num_tokens(), work.cols(), dtype, 2 * work.cols()), out(work.num_tokens(), work.cols(), dtype, 16);
  q.randomise(9, 4.0F);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  attention_cuda(context, {work.batch(Side::device), q.device(), work.cache(Side::device), scale, out.device()});
  synchronise(context);
  attention_reference({work.batch(Side::host), q.host(), work.cache(Side::host), scale, out.host()});
  report.compare(label("attention", dtype, quant, shape.name), out, tolerance(dtype));
}

/// A row's bytes are the same alone and beside other rows.
void check_independence(const OpContext& context, Report& report, DType dtype, const QuantFormat& quant) {
  std::vector<std::byte> results[2];
  for (const bool alone : {true, false}) {
    std::vector<RowShape> rows{{900, 1}};
    if (!alone) rows.insert(rows.end(), {{3, 1}, {1700, 1}, {0, 40}});
    AttentionCase work(rows, 4, 64, dtype, 1, 0, quant);
    work.randomise_cache(11, 1.0F);
    TwinMatrix q(work.num_tokens(), work.cols(), dtype), out(work.num_tokens(), work.cols(), dtype);
    q.randomise(12, 4.0F);
    attention_cuda(context, {work.batch(Side::device), q.device(), work.cache(Side::device), 0.125F, out.device()});
    synchronise(context);
    results[alone] = out.memory().download();
    results[alone].resize(work.cols() * element_bytes(dtype));
  }
  report.equal_bytes(label("attention", dtype, quant, "row alone = row among others"), results[0], results[1]);
}

/// The same cache in one run of heads, cut into runs, and on boundaries that spoil copies in large pieces: the same
/// bytes come out.
void check_layouts(const OpContext& context, Report& report, DType dtype, const QuantFormat& quant) {
  struct Layout {
    int segments;
    std::int32_t gap;
    const char* name;
  };
  for (const std::int32_t head_dim : {128, 80, 64}) {
    std::vector<std::byte> first;
    for (const Layout layout : {Layout{1, 0, ""}, Layout{3, 0, "3 runs"}, Layout{1, 2, "8-byte boundaries"}}) {
      AttentionCase work({{543, 1}, {0, 1}, {16, 1}, {1000, 1}, {31, 1}}, 8, head_dim, dtype, layout.segments,
                         layout.gap, quant);
      work.randomise_cache(13, 1.0F);
      TwinMatrix q(work.num_tokens(), work.cols(), dtype), out(work.num_tokens(), work.cols(), dtype);
      q.randomise(14, 4.0F);
      attention_cuda(context, {work.batch(Side::device), q.device(), work.cache(Side::device), 0.1F, out.device()});
      synchronise(context);
      const std::vector<std::byte> got = out.memory().download();
      if (first.empty()) {
        first = got;
      } else {
        report.equal_bytes(label("attention", dtype, quant, std::to_string(head_dim) + ", " + layout.name + " = one"),
                           got, first);
      }
    }
  }
}

const std::vector<AttentionShape>& attention_shapes() {
  static const std::vector<RowShape> long_decode{{768, 1}, {5, 1}, {1100, 1}, {2047, 1}};
  static const std::vector<AttentionShape> shapes{
      {kDecodeRows, 4, 128, 1, 0, "decode, 128"},
      {kDecodeRows, 7, 128, 1, 0, "decode, 128, 7 heads"},
      {kDecodeRows, 8, 128, 3, 0, "decode, 128, 3 runs"},
      {kDecodeRows, 3, 80, 1, 0, "decode, 80"},
      {kDecodeRows, 8, 80, 1, 0, "decode, 80, 8 heads"},
      {kDecodeRows, 4, 64, 1, 0, "decode, 64"},
      {kDecodeRows, 2, 64, 2, 0, "decode, 64, 2 runs"},
      {kDecodeRows, 3, 16, 1, 0, "decode, 16"},
      {kDecodeRows, 2, 48, 1, 0, "decode, 48"},
      {kDecodeRows, 2, 20, 1, 0, "decode, 20"},
      {kDecodeRows, 2, 64, 1, 1, "decode, 64, unaligned"},
      {kDecodeRows, 1, 160, 1, 0, "decode, 160"},
      {long_decode, 2, 96, 1, 0, "long decode, 96"},
      {long_decode, 4, 96, 1, 0, "long decode, 96, 4 heads"},
      {long_decode, 4, 64, 1, 2, "long decode, 64, 8-byte boundaries"},
      {kPromptRows, 2, 128, 1, 0, "prompts, 128"},
      {kPromptRows, 3, 80, 3, 0, "prompts, 80, 3 runs"},
      {kMixedRows, 2, 64, 1, 0, "mixed, 64"},
      {kMixedRows, 2, 18, 1, 0, "mixed, 18"},
  };
  return shapes;
}

template <auto kCheck>
void in_every_form(const OpContext& context, Report& report) {
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32}) {
    for (const QuantFormat& quant : kFormats) kCheck(context, report, dtype, quant);
  }
}

void check_appends(const OpContext& context, Report& report, DType dtype, const QuantFormat& quant) {
  for (const AttentionShape& shape : attention_shapes()) check_append(context, report, shape, dtype, quant);
}

void check_attentions(const OpContext& context, Report& report, DType dtype, const QuantFormat& quant) {
  for (const AttentionShape& shape : attention_shapes()) check_attention(context, report, shape, dtype, quant);
  check_independence(context, report, dtype, quant);
  check_layouts(context, report, dtype, quant);
}

constexpr CheckGroup kGroups[] = {{"dequantize", in_every_form<check_dequantize>},
                                  {"compressed_linear", in_every_form<check_linear>},
                                  {"compressed_append", in_every_form<check_appends>},
                                  {"compressed_attention", in_every_form<check_attentions>}};

}  // namespace

std::span<const CheckGroup> compressed_op_checks() { return kGroups; }

}  // namespace flexgen::gpu

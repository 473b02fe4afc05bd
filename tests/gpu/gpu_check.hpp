// What the checks of the GPU's kernels share: their shapes, and the comparison of results with the reference's.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/cuda_check.hpp"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/linear/cublas.hpp"
#include "ops/quantize_rows.hpp"
#include "tests/support/device_case.hpp"

namespace flexgen::gpu {

using test::AttentionCase;
using test::CutTable;
using test::kGpu;
using test::RowShape;
using test::Side;
using test::Twin;
using test::TwinMatrix;

inline void synchronise(const OpContext& context) {
  FLEXGEN_CUDA_CALL(cudaStreamSynchronize(static_cast<cudaStream_t>(context.stream)));
}

inline float element(const std::byte* data, DType dtype, std::uint64_t index) {
  float value = 0.0F;
  convert_elements(data + index * element_bytes(dtype), dtype, reinterpret_cast<std::byte*>(&value), DType::float32, 1);
  return value;
}

/// Prints one line per comparison and remembers failures.
class Report {
 public:
  /// Largest |got - expected| relative to the largest |expected| of its row; all but the matrix must be untouched.
  void compare(const std::string& name, TwinMatrix& matrix, double tolerance) {
    const MatrixView view = matrix.host();
    const std::vector<std::byte> got = matrix.memory().download();
    const auto offset = static_cast<std::uint64_t>(view.data - matrix.memory().host());
    double worst = 0.0;
    for (std::int64_t r = 0; r < view.rows; ++r) {
      double error = 0.0, largest = 0.0;
      for (std::int64_t c = 0; c < view.cols; ++c) {
        const double expected = element(view.row(r), view.dtype, c);
        const double found = element(got.data() + offset + (view.row(r) - view.data), view.dtype, c);
        const double difference = std::fabs(found - expected);
        if (!(difference <= error)) error = difference;  // a NaN, too
        if (std::isnan(difference)) largest = NAN;
        if (!std::isnan(largest)) largest = std::max(largest, std::fabs(expected));
      }
      const double relative = largest == 0.0 ? error : error / largest;
      if (!(relative <= worst)) worst = std::isnan(relative) ? INFINITY : relative;
    }
    std::vector<std::byte> outside = got;  // with the matrix itself taken out, only poison may be left
    for (std::int64_t r = 0; r < view.rows; ++r) {
      std::memset(outside.data() + offset + (view.row(r) - view.data), 0xff, view.cols * element_bytes(view.dtype));
    }
    bool untouched = true;
    for (std::byte b : outside) untouched = untouched && b == std::byte{0xff};
    line(name, worst, tolerance, untouched ? "" : "  wrote outside");
    if (!untouched) ++failures_;
  }
  void equal_bytes(const std::string& name, std::span<const std::byte> got, std::span<const std::byte> expected) {
    std::uint64_t different = got.size() == expected.size() ? 0 : 1;
    for (std::uint64_t i = 0; different == 0 && i < got.size(); ++i) different = got[i] != expected[i];
    line(name, static_cast<double>(different), 0.0, "");
  }
  void check(const std::string& name, double error, double tolerance) { line(name, error, tolerance, ""); }
  int comparisons() const { return comparisons_; }
  int failures() const { return failures_; }

 private:
  void line(const std::string& name, double error, double tolerance, const char* remark) {
    const bool good = error <= tolerance;
    ++comparisons_;
    if (!good) ++failures_;
    std::printf("%-58s %10.2e  limit %8.1e  %s%s\n", name.c_str(), error, tolerance, good ? "ok" : "WRONG", remark);
    std::fflush(stdout);
  }
  int comparisons_ = 0, failures_ = 0;
};

/// A product of the check: which parts it has.
struct LinearShape {
  std::int64_t tokens, outputs, inputs;
  Activation activation;
  bool has_bias, has_residual, wide_out;

  LinearArgs args(const MatrixView& x, const MatrixView& weight, const MatrixView& bias, const MatrixView& out) const {
    return {x,
            weight,
            has_bias ? std::optional(bias) : std::nullopt,
            activation,
            has_residual ? std::optional(out) : std::nullopt,
            out};
  }
  std::string name() const {
    return std::to_string(tokens) + " x " + std::to_string(outputs) + " x " + std::to_string(inputs);
  }
};

inline const std::vector<RowShape> kDecodeRows{{0, 1}, {1, 1}, {543, 1}, {64, 1}, {767, 1}, {130, 1}};
inline const std::vector<RowShape> kPromptRows{{0, 130}, {0, 2}, {0, 64}, {0, 65}};
inline const std::vector<RowShape> kMixedRows{{0, 33}, {300, 1}, {100, 30}, {0, 0}, {0, 1}, {800, 1}};

struct AttentionShape {
  std::vector<RowShape> rows;
  std::int32_t heads, head_dim;
  int segments;
  std::int32_t gap;
  const char* name;
};

/// Ops against their references, on random ragged inputs.
struct CheckGroup {
  const char* name;
  void (*check)(const OpContext& context, Report& report);
};
std::span<const CheckGroup> op_checks();
std::span<const CheckGroup> compressed_op_checks();
std::span<const CheckGroup> sampling_checks();
std::span<const CheckGroup> shared_spans_checks();

}  // namespace flexgen::gpu

// Inputs that exist twice, on the host for the reference and on the GPU for the kernel, and the comparison of results.
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

#include "device/buffer.hpp"
#include "device/cuda_check.hpp"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/linear/cublas.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen::gpu {

inline const Device kGpu{DeviceKind::cuda, 0};

inline void synchronise(const OpContext& context) {
  FLEXGEN_CUDA_CALL(cudaStreamSynchronize(static_cast<cudaStream_t>(context.stream)));
}

/// One block of memory on both sides.
class Twin {
 public:
  Twin() = default;
  explicit Twin(std::uint64_t bytes) : host_(bytes), device_(MemoryKind::device, bytes, kGpu) {}

  std::byte* host() { return host_.data(); }
  std::byte* device() const { return device_.data(); }
  std::uint64_t size_bytes() const { return host_.size(); }
  void fill(int byte) { std::memset(host_.data(), byte, host_.size()); }
  void upload() {
    if (host_.empty()) return;
    FLEXGEN_CUDA_CALL(cudaMemcpy(device_.data(), host_.data(), host_.size(), cudaMemcpyHostToDevice));
    FLEXGEN_CUDA_CALL(cudaDeviceSynchronize());  // a small copy may return before it is on the GPU
  }
  std::vector<std::byte> download() const {
    std::vector<std::byte> copy(host_.size());
    if (!copy.empty()) FLEXGEN_CUDA_CALL(cudaMemcpy(copy.data(), device_.data(), copy.size(), cudaMemcpyDeviceToHost));
    return copy;
  }

 private:
  std::vector<std::byte> host_;
  Buffer device_;
};

/// A matrix on both sides. `gap` elements lie between rows, `shift` before the first one; both stay poisoned (0xff
/// bytes: NaN in every dtype), so that a kernel that reads or writes them is found out.
class TwinMatrix {
 public:
  TwinMatrix(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t gap = 0, std::int64_t shift = 0)
      : memory_((shift + rows * (cols + gap)) * element_bytes(dtype)),
        shift_bytes_(shift * element_bytes(dtype)),
        rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        dtype_(dtype) {
    memory_.fill(0xff);
    memory_.upload();
  }

  MatrixView host() { return {memory_.host() + shift_bytes_, rows_, cols_, stride_, dtype_}; }
  MatrixView device() const { return {memory_.device() + shift_bytes_, rows_, cols_, stride_, dtype_}; }
  Twin& memory() { return memory_; }
  void randomise(std::uint64_t seed, float scale) {
    for (std::int64_t r = 0; r < rows_; ++r) fill_random(host().row(r), dtype_, cols_, scale, seed, r * cols_);
    memory_.upload();
  }

 private:
  Twin memory_;
  std::uint64_t shift_bytes_;
  std::int64_t rows_, cols_, stride_;
  DType dtype_;
};

/// The device's view of a table whose rows from `cut` on lie in pinned memory of the host, as those of a weight on the
/// dram tier do. Owns that memory.
class CutTable {
 public:
  CutTable(const MatrixView& device, const MatrixView& host, std::int64_t cut)
      : first_(device.row_range(0, cut)), rest_(host.row_range(cut, host.rows - cut)) {
    const auto bytes = static_cast<std::uint64_t>(host.row(host.rows - 1) - rest_.data) +
                       host.row_range(0, 1).size_bytes();  // no gap follows the last row
    pinned_ = Buffer(MemoryKind::pinned, bytes, kGpu);
    std::memcpy(pinned_.data(), rest_.data, bytes);
    rest_.data = pinned_.seen_by_device();
  }
  TableView view() const { return {first_, rest_}; }

 private:
  MatrixView first_, rest_;
  Buffer pinned_;
};

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

struct RowShape {
  std::int32_t start;
  std::int32_t count;
  bool operator==(const RowShape&) const = default;
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

/// A ragged batch with its cache, on both sides. The cache has the engine's layout, per row and segment of heads
/// [positions][2][heads of the segment][head_dim], or that of spec/quantization.hpp; positions that no row has reached
/// are poisoned.
class AttentionCase {
 public:
  /// @param num_segments  the heads are cut into this many runs, each with memory of its own
  /// @param gap           elements added to the position stride (an odd one spoils alignment); of a compressed cache,
  ///                      four bytes each
  AttentionCase(std::vector<RowShape> rows, std::int32_t heads, std::int32_t head_dim, DType dtype,
                int num_segments = 1, std::int32_t gap = 0, const QuantFormat& quant = {})
      : rows_(std::move(rows)), heads_(heads), head_dim_(head_dim), dtype_(dtype), quant_(quant) {
    std::vector<std::int32_t> offset{0}, start;
    for (const RowShape& row : rows_) {
      offset.push_back(offset.back() + row.count);
      start.push_back(row.start);
      batch_.max_count = std::max(batch_.max_count, row.count);
      batch_.max_length = std::max(batch_.max_length, row.start + row.count);
    }
    batch_.num_rows = static_cast<std::int32_t>(rows_.size());
    batch_.num_tokens = offset.back();
    numbers_ = Twin((offset.size() + start.size()) * sizeof(std::int32_t));
    std::memcpy(numbers_.host(), offset.data(), offset.size() * sizeof(std::int32_t));
    std::memcpy(numbers_.host() + offset.size() * sizeof(std::int32_t), start.data(),
                start.size() * sizeof(std::int32_t));
    numbers_.upload();
    lay_out_cache(num_segments, gap);
  }

  BatchView batch(bool device) {
    BatchView view = batch_;
    view.host_token_offset = reinterpret_cast<const std::int32_t*>(numbers_.host());
    view.host_start = view.host_token_offset + rows_.size() + 1;
    view.token_offset = device ? reinterpret_cast<const std::int32_t*>(numbers_.device()) : view.host_token_offset;
    view.start = view.token_offset + rows_.size() + 1;
    return view;
  }
  KvView cache(bool device) {
    if (!device) return {host_table_.data(), host_table_.data(), heads_, head_dim_, quant_};
    return {reinterpret_cast<const KvHead*>(device_table_.device()),
            reinterpret_cast<const KvHead*>(device_table_.host()), heads_, head_dim_, quant_};
  }
  Twin& cache_memory() { return cache_; }
  std::int64_t cols() const { return static_cast<std::int64_t>(heads_) * head_dim_; }
  std::int32_t num_tokens() const { return batch_.num_tokens; }
  /// Bytes of keys and values of all positions.
  double cache_bytes() const {
    double positions = 0;
    for (const RowShape& row : rows_) positions += row.start + row.count;
    return positions * heads_ *
           (quant_.is_none() ? 2.0 * head_dim_ * element_bytes(dtype_) : quant_.head_position_bytes(head_dim_));
  }
  /// Multiply-adds of causal attention, two operations each.
  double operations() const {
    double pairs = 0;
    for (const RowShape& row : rows_) {
      for (std::int32_t i = 0; i < row.count; ++i) pairs += row.start + i + 1;
    }
    return pairs * 4 * cols();
  }

  void randomise_cache(std::uint64_t seed, float scale) {
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      for (std::int32_t h = 0; h < heads_; ++h) {
        const KvHead& head = host_table_[r * heads_ + h];
        for (std::int64_t p = 0; p < rows_[r].start + rows_[r].count; ++p) {
          std::byte* key = head.base + p * head.position_stride * unit_bytes();
          std::byte* value = key + head.v_offset * unit_bytes();
          if (quant_.is_none()) {
            fill_random(key, dtype_, head_dim_, scale, seed++, 0);
            fill_random(value, dtype_, head_dim_, scale, seed++, 0);
          } else {
            randomise_stored(key, key + head.k_parameters, scale, seed++);
            randomise_stored(value, key + head.v_parameters, scale, seed++);
          }
        }
      }
    }
    cache_.upload();
  }

 private:
  std::uint64_t unit_bytes() const { return quant_.is_none() ? element_bytes(dtype_) : 1; }

  void randomise_stored(std::byte* codes, std::byte* parameters, float scale, std::uint64_t seed) const {
    std::vector<float> value(head_dim_);
    fill_random(reinterpret_cast<std::byte*>(value.data()), DType::float32, head_dim_, scale, seed, 0);
    quantize_run_reference(reinterpret_cast<const std::byte*>(value.data()), DType::float32, 0, head_dim_, quant_, 0,
                           codes, parameters);
  }

  /// Of head h in a segment of `width` heads, without its base.
  KvHead head_of(std::int32_t h, std::int32_t width, std::int32_t gap) const {
    KvHead head;
    if (quant_.is_none()) {
      head.position_stride = 2 * width * head_dim_ + gap;
      head.v_offset = width * head_dim_;
      return head;
    }
    const auto codes = static_cast<std::int32_t>(quant_.code_bytes(head_dim_));
    const auto parameters = static_cast<std::int32_t>(quant_.parameter_bytes(head_dim_));
    head.position_stride = width * 2 * (codes + parameters) + 4 * gap;
    head.v_offset = width * codes;
    head.k_parameters = width * 2 * codes + h * (parameters - codes);  // from the head's own base
    head.v_parameters = head.k_parameters + width * parameters;
    return head;
  }

  void lay_out_cache(int num_segments, std::int32_t gap) {
    const std::uint64_t key_bytes =
        quant_.is_none() ? head_dim_ * element_bytes(dtype_) : static_cast<std::uint64_t>(quant_.code_bytes(head_dim_));
    std::vector<std::uint64_t> base;  // bytes, per (row, head)
    std::vector<KvHead> table;
    std::uint64_t end = 0;
    for (const RowShape& row : rows_) {
      const std::int64_t capacity = row.start + row.count + 3;
      for (int s = 0; s < num_segments; ++s) {
        const std::int32_t first = heads_ * s / num_segments;
        const std::int32_t width = heads_ * (s + 1) / num_segments - first;
        for (std::int32_t h = 0; h < width; ++h) {
          base.push_back(end + h * key_bytes);
          table.push_back(head_of(h, width, gap));
        }
        end += capacity * head_of(0, width, gap).position_stride * unit_bytes();
        end = (end + 255) / 256 * 256;
      }
    }
    cache_ = Twin(end);
    cache_.fill(0xff);
    cache_.upload();
    host_table_ = table;
    device_table_ = Twin(table.size() * sizeof(KvHead));
    for (std::size_t i = 0; i < table.size(); ++i) {
      host_table_[i].base = cache_.host() + base[i];
      table[i].base = cache_.device() + base[i];
    }
    std::memcpy(device_table_.host(), table.data(), table.size() * sizeof(KvHead));
    device_table_.upload();
  }

  std::vector<RowShape> rows_;
  std::int32_t heads_, head_dim_;
  DType dtype_;
  QuantFormat quant_;
  BatchView batch_;
  Twin numbers_, cache_, device_table_;
  std::vector<KvHead> host_table_;
};

/// Ops against their references, on random ragged inputs.
struct CheckGroup {
  const char* name;
  void (*check)(const OpContext& context, Report& report);
};
std::span<const CheckGroup> op_checks();
std::span<const CheckGroup> compressed_op_checks();

}  // namespace flexgen::gpu

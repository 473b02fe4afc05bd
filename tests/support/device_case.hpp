// Inputs that exist twice, on the host for the reference and on a device for what is tested: the one harness of the
// tests that run on every device (device_fixture.hpp), of the GPU's checks and of its benchmarks. The device is a GPU
// unless another is named; a host device has memory of its own, too.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "device/buffer.hpp"
#include "device/stream.hpp"
#include "ops/attention.hpp"
#include "ops/elementwise.hpp"
#include "ops/embedding.hpp"
#include "ops/matrix_view.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen::test {

inline const Device kGpu{DeviceKind::cuda, 0};

enum class Side : std::uint8_t { host, device };

/// One block of memory on both sides. On a host device the sides are two blocks all the same.
class Twin {
 public:
  Twin() = default;
  explicit Twin(std::uint64_t bytes, const Device& device = kGpu)
      : host_(bytes), on_device_(MemoryKind::device, bytes, device), which_(device) {}

  std::byte* host() { return host_.data(); }
  std::byte* device() const { return on_device_.data(); }
  std::uint64_t size_bytes() const { return host_.size(); }
  void fill(int byte) { std::memset(host_.data(), byte, host_.size()); }
  void upload() { copy(on_device_.data(), host_.data(), "upload"); }
  std::vector<std::byte> download() const {
    std::vector<std::byte> result(host_.size());
    copy(result.data(), on_device_.data(), "download");
    return result;
  }

 private:
  void copy(std::byte* to, const std::byte* from, const char* what) const {
    if (host_.empty()) return;
    Stream stream("copies of a test", Stream::Mode::inline_tasks, which_);
    stream.copy(to, from, host_.size(), Resource::compute, what);
    stream.synchronize();
  }

  std::vector<std::byte> host_;
  Buffer on_device_;
  Device which_;
};

/// A matrix on both sides. `gap` elements lie between rows, `shift` before the first one; both stay poisoned (0xff
/// bytes: NaN in every dtype), so that a kernel that reads or writes them is found out.
class TwinMatrix {
 public:
  TwinMatrix(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t gap = 0, std::int64_t shift = 0,
             const Device& device = kGpu)
      : memory_((shift + rows * (cols + gap)) * element_bytes(dtype), device),
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

struct RowShape {
  std::int32_t start;
  std::int32_t count;
  bool operator==(const RowShape&) const = default;
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
                int num_segments = 1, std::int32_t gap = 0, const QuantFormat& quant = {}, const Device& device = kGpu)
      : rows_(std::move(rows)), heads_(heads), head_dim_(head_dim), dtype_(dtype), quant_(quant), device_(device) {
    std::vector<std::int32_t> offset{0}, start;
    for (const RowShape& row : rows_) {
      offset.push_back(offset.back() + row.count);
      start.push_back(row.start);
      batch_.max_count = std::max(batch_.max_count, row.count);
      batch_.max_length = std::max(batch_.max_length, row.start + row.count);
    }
    batch_.num_rows = static_cast<std::int32_t>(rows_.size());
    batch_.num_tokens = offset.back();
    numbers_ = Twin((offset.size() + start.size()) * sizeof(std::int32_t), device);
    std::memcpy(numbers_.host(), offset.data(), offset.size() * sizeof(std::int32_t));
    std::memcpy(numbers_.host() + offset.size() * sizeof(std::int32_t), start.data(),
                start.size() * sizeof(std::int32_t));
    numbers_.upload();
    lay_out_cache(num_segments, gap);
  }

  BatchView batch(Side side) {
    BatchView view = batch_;
    view.host_token_offset = reinterpret_cast<const std::int32_t*>(numbers_.host());
    view.host_start = view.host_token_offset + rows_.size() + 1;
    view.token_offset =
        side == Side::device ? reinterpret_cast<const std::int32_t*>(numbers_.device()) : view.host_token_offset;
    view.start = view.token_offset + rows_.size() + 1;
    return view;
  }
  KvView cache(Side side) {
    if (side == Side::host) return {host_table_.data(), host_table_.data(), heads_, head_dim_, quant_};
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
    cache_ = Twin(end, device_);
    cache_.fill(0xff);
    cache_.upload();
    host_table_ = table;
    device_table_ = Twin(table.size() * sizeof(KvHead), device_);
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
  Device device_;
  BatchView batch_;
  Twin numbers_, cache_, device_table_;
  std::vector<KvHead> host_table_;
};

}  // namespace flexgen::test

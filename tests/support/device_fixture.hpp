// Test bodies that run on every device: on the host always, on a GPU where there is one (else skipped).
//
// A test fills host matrices, uploads them, runs the op, downloads the result and compares it with the reference
// implementation, which works on the host matrices; or it takes inputs that exist on both sides (device_case.hpp).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "device/buffer.hpp"
#include "device/device.hpp"
#include "device/stream.hpp"
#include "ops/context.hpp"
#include "ops/element_access.hpp"
#include "ops/matrix_view.hpp"
#include "tests/support/device_case.hpp"

namespace flexgen::test {

/// A matrix in host memory, with a stride, and elements readable as float.
class HostMatrix {
 public:
  HostMatrix() = default;
  HostMatrix(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t padding = 0)
      : bytes_(static_cast<std::size_t>(rows * (cols + padding)) * element_bytes(dtype)),
        rows_(rows),
        cols_(cols),
        stride_(cols + padding),
        dtype_(dtype) {
    fill(std::numeric_limits<float>::quiet_NaN());
  }
  static HostMatrix random(std::int64_t rows, std::int64_t cols, DType dtype, std::uint32_t seed,
                           std::int64_t padding = 0, float scale = 1.0F) {
    HostMatrix matrix(rows, cols, dtype, padding);
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) matrix.set(r, c, uniform(generator));
    return matrix;
  }

  float at(std::int64_t r, std::int64_t c) const { return load_element(bytes_.data(), dtype_, r * stride_ + c); }
  void set(std::int64_t r, std::int64_t c, float value) {
    store_element(bytes_.data(), dtype_, r * stride_ + c, value);
  }
  void fill(float value) {
    for (std::int64_t i = 0; i < rows_ * stride_; ++i) store_element(bytes_.data(), dtype_, i, value);
  }
  MatrixView view() { return {bytes_.data(), rows_, cols_, stride_, dtype_}; }
  std::vector<std::byte>& bytes() { return bytes_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  DType dtype() const { return dtype_; }

 private:
  std::vector<std::byte> bytes_;
  std::int64_t rows_ = 0, cols_ = 0, stride_ = 0;
  DType dtype_ = DType::float32;
};

/// Largest error allowed: `relative` times the reference, plus `absolute`.
struct Tolerance {
  double relative, absolute;
};
inline Tolerance tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return {2e-6, 2e-6};
    case DType::float16: return {1.1e-3, 1e-4};
    case DType::bfloat16: return {8e-3, 1e-3};
    case DType::float64: break;
  }
  return {0.0, 0.0};
}

/// Every element within `tolerance` of `expected`; NaN only where the reference has NaN.
inline void expect_near(const HostMatrix& actual, const HostMatrix& expected, Tolerance tolerance,
                        const std::string& what) {
  ASSERT_EQ(actual.rows(), expected.rows());
  ASSERT_EQ(actual.cols(), expected.cols());
  for (std::int64_t r = 0; r < actual.rows(); ++r) {
    for (std::int64_t c = 0; c < actual.cols(); ++c) {
      const double value = actual.at(r, c);
      const double reference = expected.at(r, c);
      if (std::isnan(value) && std::isnan(reference)) continue;
      if (value == reference) continue;
      const double allowed = tolerance.relative * std::abs(reference) + tolerance.absolute;
      ASSERT_LE(std::abs(value - reference), allowed)
          << what << " at (" << r << ", " << c << "): " << value << " where the reference has " << reference;
    }
  }
}

/// Parameterised by the device's kind; gives tests an OpContext, uploads and downloads.
class OnDevice : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    device_.kind = GetParam();
    if (device_.is_cuda() && num_cuda_devices() == 0) GTEST_SKIP() << "no GPU";
    use_device(device_);
    stream_ = std::make_unique<Stream>("test", Stream::Mode::inline_tasks, device_);
    set_workspace(64ULL << 20);
  }

  /// Gives the context a workspace of this size.
  void set_workspace(std::uint64_t bytes) {
    workspace_memory_ = Buffer(MemoryKind::device, device_.is_cuda() ? bytes : 0, device_);
    workspace_ = Workspace(workspace_memory_.data(), workspace_memory_.size_bytes());
  }
  OpContext context() { return {device_, stream_->native(), &workspace_, Backend::native}; }
  const Device& device() const { return device_; }

  std::byte* upload(const void* data, std::size_t bytes) {
    buffers_.emplace_back(MemoryKind::device, std::max<std::size_t>(bytes, 1), device_);
    std::byte* to = buffers_.back().data();
    if (bytes > 0) stream_->copy(to, static_cast<const std::byte*>(data), bytes, Resource::compute, "upload");
    stream_->synchronize();
    return to;
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    return reinterpret_cast<T*>(upload(values.data(), values.size() * sizeof(T)));
  }
  MatrixView upload(HostMatrix& matrix) {
    MatrixView view = matrix.view();
    view.data = upload(matrix.bytes().data(), matrix.bytes().size());
    return view;
  }
  void download(void* to, const std::byte* from, std::size_t bytes) {
    if (bytes > 0) stream_->copy(static_cast<std::byte*>(to), from, bytes, Resource::compute, "download");
    stream_->synchronize();
  }
  /// What the device's side of the matrix, which has neither gaps nor a shift, holds after all that was asked of the
  /// context's stream: the matrix copies on another.
  HostMatrix download(TwinMatrix& matrix) {
    stream_->synchronize();
    const MatrixView view = matrix.host();
    HostMatrix copy(view.rows, view.cols, view.dtype);
    copy.bytes() = matrix.memory().download();
    return copy;
  }
  /// The matrix that `view` (made by upload) now holds, in the shape of `like`.
  HostMatrix download(const MatrixView& view, const HostMatrix& like) {
    HostMatrix matrix = like;
    download(matrix.bytes().data(), view.data, matrix.bytes().size());
    return matrix;
  }

 private:
  Device device_;
  std::unique_ptr<Stream> stream_;
  Buffer workspace_memory_;
  Workspace workspace_;
  std::vector<Buffer> buffers_;
};

inline std::string device_kind_name(const ::testing::TestParamInfo<DeviceKind>& info) {
  return info.param == DeviceKind::cuda ? "cuda" : "host";
}

#define FLEXGEN_ON_EVERY_DEVICE(Suite)                                                                  \
  INSTANTIATE_TEST_SUITE_P(Devices, Suite,                                                              \
                           ::testing::Values(::flexgen::DeviceKind::host, ::flexgen::DeviceKind::cuda), \
                           ::flexgen::test::device_kind_name)

inline constexpr DType kAllDTypes[] = {DType::float32, DType::float16, DType::bfloat16};

}  // namespace flexgen::test

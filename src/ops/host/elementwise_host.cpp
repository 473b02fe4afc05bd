#include <algorithm>
#include <cstring>

#include "ops/host/add_elements.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kPiece = 1024;                 // floats on the stack: 4 KiB
constexpr std::int64_t kElementwisePerTask = 262144;  // below, one thread

}  // namespace

void add_elements(const std::byte* x, const std::byte* y, std::byte* out, DType dtype, std::int64_t count) {
  const HostKernels& kernels = host_kernels();
  const std::int64_t bytes = static_cast<std::int64_t>(element_bytes(dtype));
  alignas(64) float a[kPiece];
  alignas(64) float b[kPiece];
  for (std::int64_t i = 0; i < count; i += kPiece) {
    const std::int64_t piece = std::min(kPiece, count - i);
    kernels.to_float(x + i * bytes, dtype, a, piece);
    kernels.to_float(y + i * bytes, dtype, b, piece);
    kernels.add(a, b, a, piece);
    kernels.from_float(a, out + i * bytes, dtype, piece);
  }
}

void add_host(const MatrixView& x, const MatrixView& y, const MatrixView& out) {
  parallel_ranges(out.rows, 1 + kElementwisePerTask / out.cols, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t t = first; t < first + count; ++t)
      add_elements(x.row(t), y.row(t), out.row(t), out.dtype, out.cols);
  });
}

void convert_elements(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype, std::uint64_t count) {
  const HostKernels& kernels = host_kernels();
  const std::uint64_t from_bytes = element_bytes(from_dtype);
  const std::uint64_t to_bytes = element_bytes(to_dtype);
  parallel_ranges(static_cast<std::int64_t>(count), kElementwisePerTask, [&](std::int64_t first, std::int64_t length) {
    const std::byte* source = from + static_cast<std::uint64_t>(first) * from_bytes;
    std::byte* target = to + static_cast<std::uint64_t>(first) * to_bytes;
    if (from_dtype == to_dtype) {
      std::memcpy(target, source, static_cast<std::uint64_t>(length) * to_bytes);
      return;
    }
    alignas(64) float widened[kPiece];
    for (std::int64_t i = 0; i < length; i += kPiece) {
      const std::int64_t piece = std::min(kPiece, length - i);
      kernels.to_float(source + static_cast<std::uint64_t>(i) * from_bytes, from_dtype, widened, piece);
      kernels.from_float(widened, target + static_cast<std::uint64_t>(i) * to_bytes, to_dtype, piece);
    }
  });
}

void fill_random(std::byte* to, DType dtype, std::uint64_t count, float scale, std::uint64_t seed,
                 std::uint64_t first_index) {
  const HostKernels& kernels = host_kernels();
  const std::uint64_t bytes = element_bytes(dtype);
  parallel_ranges(static_cast<std::int64_t>(count), kElementwisePerTask, [&](std::int64_t first, std::int64_t length) {
    alignas(64) float values[kPiece];
    for (std::int64_t i = first; i < first + length; i += kPiece) {
      const std::int64_t piece = std::min(kPiece, first + length - i);
      kernels.random(values, piece, scale, seed, first_index + static_cast<std::uint64_t>(i));
      kernels.from_float(values, to + static_cast<std::uint64_t>(i) * bytes, dtype, piece);
    }
  });
}

}  // namespace flexgen

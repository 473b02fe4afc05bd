#include "probe/matrix_probe.hpp"

#include <fmt/core.h>

#include "base/bytes.hpp"
#include "ops/linear.hpp"
#include "probe/timed_calls.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t most_spread_bytes = 128 * MiB;  // several times what processors' caches hold

struct Shape {
  DType dtype;
  std::int64_t rows;
  std::int64_t size;
  QuantFormat stored = {};
};

std::vector<Shape> shapes_for(const Device& device, bool quick) {
  if (device.is_cuda()) {
    std::vector<Shape> shapes{{DType::float16, 4096, 4096},
                              {DType::float16, 4096, 8192},
                              {DType::float16, 8, 4096},
                              {DType::float16, 8, 8192},
                              {DType::float32, 4096, 4096}};
    return quick ? std::vector<Shape>{shapes[1], shapes[3]} : shapes;
  }
  if (quick) return {{DType::float32, 256, 2048}, {DType::float32, 8, 2048}, {DType::bfloat16, 256, 2048}};
  return {
      {DType::float32, 512, 4096}, {DType::float32, 8, 4096}, {DType::bfloat16, 512, 4096}, {DType::bfloat16, 8, 4096}};
}

std::vector<Shape> call_shapes_for(const Device& device, bool quick) {
  const bool on_gpu = device.is_cuda();
  const std::vector<DType> dtypes = on_gpu ? std::vector{DType::float16} : std::vector{DType::float32, DType::bfloat16};
  const std::vector<std::int64_t> all_tokens =
      on_gpu ? std::vector<std::int64_t>{1, 8, 32, 128, 512, 4096} : std::vector<std::int64_t>{1, 8, 24, 64, 192, 768};
  const std::vector<std::int64_t> few{8, all_tokens[4]};
  const std::int64_t small = on_gpu ? 4096 : 1024, large = on_gpu ? 8192 : 4096;
  const std::vector<std::int64_t> sizes = quick ? std::vector{small} : std::vector{small, large};
  std::vector<Shape> shapes;
  for (const DType dtype : dtypes)
    for (const std::int32_t bits : {0, 4, 8})
      for (const std::int64_t size : sizes)
        for (const std::int64_t count : quick ? few : all_tokens) shapes.push_back({dtype, count, size, {bits, 64}});
  return shapes;
}

class Product {
 public:
  /// @param spread_bytes  of weights that take turns
  Product(const Shape& shape, const Device& device, std::uint64_t spread_bytes)
      : shape_(shape),
        calls_(device, linear_workspace_bytes(device) +
                           (shape.stored.is_none() ? 0 : linear_compressed_workspace_bytes(device))),
        weight_bytes_(weight_view(nullptr).size_bytes()),
        num_weights_(std::max<std::uint64_t>(2, spread_bytes / weight_bytes_)),
        // Codes may be anything; as float16 the parameters of their groups are numbers.
        weights_(
            calls_.make_operand(num_weights_ * weight_bytes_, shape.stored.is_none() ? shape.dtype : DType::float16)),
        x_(calls_.make_operand(activation_bytes(), shape.dtype)),
        out_(MemoryKind::device, activation_bytes(), device) {}

  double operations_per_second(double seconds_per_run, double seconds_to_heat) {
    const double operations =
        2.0 * static_cast<double>(shape_.rows) * static_cast<double>(shape_.size) * static_cast<double>(shape_.size);
    return operations / calls_.best_seconds(seconds_per_run, seconds_to_heat, [this] { call(); });
  }

 private:
  std::uint64_t activation_bytes() const {
    return static_cast<std::uint64_t>(shape_.rows * shape_.size) * element_bytes(shape_.dtype);
  }
  MatrixView weight_view(std::byte* data) const {
    return contiguous_view(data, shape_.size, shape_.size, shape_.dtype, shape_.stored);
  }

  void call() {
    turn_ = (turn_ + 1) % num_weights_;
    LinearArgs args;
    args.x = contiguous_view(x_.data(), shape_.rows, shape_.size, shape_.dtype);
    args.weight = weight_view(weights_.data() + turn_ * weight_bytes_);
    args.out = contiguous_view(out_.data(), shape_.rows, shape_.size, shape_.dtype);
    linear(calls_.context(), args);
  }

  Shape shape_;
  TimedCalls calls_;
  std::uint64_t weight_bytes_;
  std::uint64_t num_weights_;
  std::uint64_t turn_ = 0;
  Buffer weights_, x_, out_;
};

// A GPU lowers its clock when large products have heated it for some tenths of a second: prompts take longer.
double seconds_to_heat(const Device& device, const Shape& shape, bool quick) {
  if (!device.is_cuda() || shape.rows < 512) return 0;
  return quick ? 0.3 : 1.5;
}

}  // namespace

std::vector<MatrixRate> measure_matrix(const Device& device, bool quick,
                                       const std::function<void(std::string_view)>& progress) {
  std::vector<MatrixRate> rates;
  for (const Shape& shape : shapes_for(device, quick)) {
    progress(fmt::format("matrix product {} [{} x {}] x [{} x {}]", dtype_name(shape.dtype), shape.rows, shape.size,
                         shape.size, shape.size));
    Product product(shape, device, most_spread_bytes);
    rates.push_back({shape.dtype, shape.rows, shape.size,
                     product.operations_per_second(quick ? 0.05 : 0.15, seconds_to_heat(device, shape, quick))});
  }
  return rates;
}

std::vector<ProductRate> measure_products(const Device& device, bool quick,
                                          const std::function<void(std::string_view)>& progress) {
  progress("matrix products of few tokens and many, plain and in codes");
  std::vector<ProductRate> rates;
  for (const Shape& shape : call_shapes_for(device, quick)) {
    Product product(shape, device, quick ? 16 * MiB : most_spread_bytes);
    const double heat = seconds_to_heat(device, shape, quick) / 3;  // it is hot from those before
    rates.push_back({shape.dtype, shape.stored.bits, shape.rows, shape.size,
                     product.operations_per_second(quick ? 0.02 : 0.05, heat)});
  }
  return rates;
}

}  // namespace flexgen

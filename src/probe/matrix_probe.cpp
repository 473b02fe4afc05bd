#include "probe/matrix_probe.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "base/bytes.hpp"
#include "base/trace.hpp"
#include "device/buffer.hpp"
#include "device/stream.hpp"
#include "ops/context.hpp"
#include "ops/linear.hpp"

namespace flexgen {
namespace {

struct Shape {
  DType dtype;
  std::int64_t rows;
  std::int64_t size;
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

// Magnitudes between 1/4 and 1, either sign: no zeros, no infinities, and no constant, which would cost less power.
void fill_with_numbers(std::span<std::byte> memory, DType dtype) {
  std::uint64_t state = 1;
  const auto next = [&] {
    return static_cast<std::uint32_t>((state = state * 6364136223846793005ULL + 1442695040888963407ULL) >> 32);
  };
  for (std::uint64_t at = 0; at + sizeof(std::uint32_t) <= memory.size(); at += sizeof(std::uint32_t)) {
    const std::uint32_t random = next();
    std::uint32_t word = 0;
    switch (dtype) {
      case DType::float32: word = 0x3e800000U + (random & 0x80ffffffU); break;
      case DType::float16: word = 0x34003400U + (random & 0x87ff87ffU); break;
      case DType::bfloat16: word = 0x3e803e80U + (random & 0x80ff80ffU); break;
      case DType::float64: break;
    }
    std::memcpy(memory.data() + at, &word, sizeof word);
  }
}

// Device memory full of numbers.
Buffer make_operand(std::uint64_t bytes, DType dtype, const Device& device, Stream& stream) {
  const Buffer host(MemoryKind::pageable, std::min(bytes, 16 * MiB), device);
  fill_with_numbers({host.data(), host.size_bytes()}, dtype);
  Buffer operand(MemoryKind::device, bytes, device);
  for (std::uint64_t done = 0; done < bytes; done += host.size_bytes())
    stream.copy(operand.data() + done, host.data(), std::min(host.size_bytes(), bytes - done), Resource::host_to_gpu,
                "operand");
  stream.synchronize();
  return operand;
}

class Product {
 public:
  Product(const Shape& shape, const Device& device)
      : shape_(shape),
        stream_("matrix probe", Stream::Mode::inline_tasks, device, &tracer_),
        weight_bytes_(static_cast<std::uint64_t>(shape.size * shape.size) * element_bytes(shape.dtype)),
        num_weights_(std::max<std::uint64_t>(2, 256 * MiB / weight_bytes_)),
        weights_(make_operand(num_weights_ * weight_bytes_, shape.dtype, device, stream_)),
        x_(make_operand(activation_bytes(), shape.dtype, device, stream_)),
        out_(MemoryKind::device, activation_bytes(), device),
        scratch_(MemoryKind::device, linear_workspace_bytes(device), device),
        workspace_(scratch_.data(), scratch_.size_bytes()) {
    context_.device = device;
    context_.stream = stream_.native();
    context_.workspace = &workspace_;
  }

  double operations() const {
    return 2.0 * static_cast<double>(shape_.rows) * static_cast<double>(shape_.size) * static_cast<double>(shape_.size);
  }

  /// Seconds of `num_calls` products, by the device's clock.
  double run(int num_calls) {
    const std::uint64_t before_ns = busy_ns();
    {
      const StreamSpan span(stream_, Resource::compute, "products");
      for (int i = 0; i < num_calls; ++i) call();
    }
    stream_.synchronize();
    return static_cast<double>(busy_ns() - before_ns) / 1e9;
  }

 private:
  std::uint64_t activation_bytes() const {
    return static_cast<std::uint64_t>(shape_.rows * shape_.size) * element_bytes(shape_.dtype);
  }
  std::uint64_t busy_ns() const { return tracer_.totals()[static_cast<std::size_t>(Resource::compute)].busy_ns; }

  void call() {
    turn_ = (turn_ + 1) % num_weights_;
    LinearArgs args;
    args.x = contiguous_view(x_.data(), shape_.rows, shape_.size, shape_.dtype);
    args.weight = contiguous_view(weights_.data() + turn_ * weight_bytes_, shape_.size, shape_.size, shape_.dtype);
    args.out = contiguous_view(out_.data(), shape_.rows, shape_.size, shape_.dtype);
    const Workspace::Scope scope(workspace_);
    linear(context_, args);
  }

  Shape shape_;
  Tracer tracer_;
  Stream stream_;
  std::uint64_t weight_bytes_;
  std::uint64_t num_weights_;
  std::uint64_t turn_ = 0;
  Buffer weights_, x_, out_, scratch_;
  Workspace workspace_;
  OpContext context_;
};

}  // namespace

std::vector<MatrixRate> measure_matrix(const Device& device, bool quick,
                                       const std::function<void(std::string_view)>& progress) {
  const double seconds_per_run = quick ? 0.05 : 0.15;
  const double seconds_to_heat = quick ? 0.3 : 1.5;
  std::vector<MatrixRate> rates;
  for (const Shape& shape : shapes_for(device, quick)) {
    progress(fmt::format("matrix product {} [{} x {}] x [{} x {}]", dtype_name(shape.dtype), shape.rows, shape.size,
                         shape.size, shape.size));
    Product product(shape, device);
    product.run(1);  // kernels are chosen and loaded
    const double one_call = product.run(1);
    const auto calls_in = [&](double seconds) {
      return static_cast<int>(std::clamp(std::ceil(seconds / std::max(one_call, 1e-7)), 1.0, 20000.0));
    };
    // A GPU lowers its clock when large products have heated it for some tenths of a second: prompts take longer.
    if (device.is_cuda() && shape.rows >= 512) product.run(calls_in(seconds_to_heat));
    const int num_calls = calls_in(seconds_per_run);
    double best = 0;
    for (int i = 0; i < 3; ++i) best = std::max(best, product.operations() * num_calls / product.run(num_calls));
    rates.push_back({shape.dtype, shape.rows, shape.size, best});
  }
  return rates;
}

}  // namespace flexgen

#include "probe/profile_table.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "base/bytes.hpp"

namespace flexgen {
namespace {

std::string line(std::string_view name, std::string_view text) { return fmt::format("{:<28}{}\n", name, text); }

std::string rate(double bytes_per_second) { return fmt::format("{:.4g}", bytes_per_second * 1e-9); }

// "64 KiB 16.5, 256 KiB 34.6"
std::string list(const std::vector<CopyRate>& rates) {
  std::string text;
  for (const CopyRate& r : rates)
    text += fmt::format(
        "{}{} {}", text.empty() ? "" : ", ",
        r.chunk_bytes >= MiB ? fmt::format("{} MiB", r.chunk_bytes / MiB) : fmt::format("{} KiB", r.chunk_bytes / KiB),
        rate(r.bytes_per_second));
  return text;
}

std::string list(const std::vector<ThreadRate>& rates) {
  std::string text;
  for (const ThreadRate& r : rates)
    text += fmt::format("{}{} thread{} {}", text.empty() ? "" : ", ", r.num_threads, r.num_threads == 1 ? "" : "s",
                        rate(r.bytes_per_second));
  return text;
}

// "; kept up: 1024 KiB x 32 2.1"
std::string kept_up(const std::optional<DiskRate>& sustained) {
  if (!sustained) return {};
  return fmt::format("; kept up: {} KiB x {} {}", sustained->block_bytes / KiB, sustained->queue_depth,
                     rate(sustained->bytes_per_second));
}

std::string list(const std::vector<DiskRate>& rates) {
  std::string text;
  for (const DiskRate& r : rates)
    text += fmt::format("{}{} KiB x {} {}", text.empty() ? "" : ", ", r.block_bytes / KiB, r.queue_depth,
                        rate(r.bytes_per_second));
  return text;
}

std::string matrix_lines(const std::vector<MatrixRate>& rates) {
  std::string text;
  for (const MatrixRate& r : rates)
    text += line(fmt::format("matrix {} {} x {}", dtype_name(r.dtype), r.rows, r.size),
                 fmt::format("{:.4g} TFLOP/s; weights at {} GB/s", r.operations_per_second * 1e-12,
                             rate(r.operations_per_second / (2.0 * static_cast<double>(r.rows)) *
                                  static_cast<double>(element_bytes(r.dtype)))));
  return text;
}

// "float32, 4 bits"
std::string form(DType dtype, int bits) {
  return bits == 0 ? std::string(dtype_name(dtype)) : fmt::format("{}, {} bits", dtype_name(dtype), bits);
}

// Of each form of the operands a line; of products those of the largest matrices.
std::string op_lines(const std::optional<OpRates>& ops) {
  if (!ops) return {};
  struct Line {
    std::string name, rates, unit;
  };
  std::vector<Line> lines;
  const auto add = [&](const std::string& name, const std::string& rates, const char* unit) {
    const auto known = std::ranges::find(lines, name, &Line::name);
    if (known == lines.end()) lines.push_back({name, rates, unit});
    else known->rates += ", " + rates;
  };
  std::int64_t largest = 0;
  for (const ProductRate& r : ops->products) largest = std::max(largest, r.size);
  for (const ProductRate& r : ops->products)
    if (r.size == largest)
      add("product " + form(r.dtype, r.bits),
          fmt::format("{} tokens {:.4g}", r.tokens, r.operations_per_second * 1e-12), "TFLOP/s");
  for (const CacheReadRate& r : ops->cache_reads)
    add("cache " + form(r.dtype, r.bits), fmt::format("{} positions {}", r.positions, rate(r.bytes_per_second)),
        "GB/s");
  std::string text;
  for (const Line& op : lines) text += line(op.name, op.rates + " " + op.unit);
  return text;
}

std::string gpu_lines(const GpuProfile& gpu) {
  std::string text = line("GPU", gpu.name);
  text += line("pinned H2D, GB/s", list(gpu.host_to_gpu));
  text += line("pinned D2H, GB/s", list(gpu.gpu_to_host));
  text += line("both at once, sum, GB/s", list(gpu.both_directions));
  text += line("pageable H2D, GB/s", rate(gpu.pageable_host_to_gpu_bytes_per_second));
  text += line("GPU memory copy, GB/s", rate(gpu.memory_bytes_per_second) + " (read + write)");
  text += matrix_lines(gpu.matrix) + op_lines(gpu.ops);
  for (const SharedMemoryRate& r : gpu.beside_host_reads)
    text += line(
        fmt::format("H2D beside {} readers, GB/s", r.num_threads),
        fmt::format("H2D {}, host reads {}, sum {}", rate(r.host_to_gpu_bytes_per_second),
                    rate(r.read_bytes_per_second), rate(r.host_to_gpu_bytes_per_second + r.read_bytes_per_second)));
  return text;
}

}  // namespace

std::string profile_table(const HardwareProfile& p) {
  std::string text = line("machine", fmt::format("{}, {} processors, {}{}", p.host, p.memory.num_processors,
                                                 p.measured_at, p.quick ? ", quick" : ""));
  text += line("host memory read, GB/s", list(p.memory.read));
  text += line("host memory copy, GB/s", list(p.memory.copy) + " (read + write)");
  text += matrix_lines(p.memory.matrix) + op_lines(p.memory.ops);
  if (p.gpu) text += gpu_lines(*p.gpu);
  if (p.disk) {
    text += line("disk", fmt::format("{}, {}, {}, {}", p.disk->directory, p.disk->method,
                                     p.disk->direct ? "direct" : "buffered", format_bytes(p.disk->file_bytes)));
    text += line("disk read, GB/s", list(p.disk->read) + kept_up(p.disk->sustained_read));
    text += line("disk write, GB/s", list(p.disk->write) + kept_up(p.disk->sustained_write));
    text += line("", p.disk->note);
  }
  for (const LinkProfile& l : p.links)
    text += line(fmt::format("rank {} to {}, {}, GB/s", l.from, l.to, l.transport),
                 fmt::format("{}; latency {:.3g} us{}", list(l.rates), l.latency_seconds * 1e6,
                             l.same_machine ? "" : ", other machine"));
  return text;
}

}  // namespace flexgen

#include "run/doctor/seen.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/bytes.hpp"

namespace flexgen {
namespace {

// Lines alike, of several ranks, stand once.
template <class LineOf>
std::vector<std::string> lines_of(AllRanks ranks, const LineOf& line_of) {
  std::vector<std::string> lines;
  for (const RankFacts& rank : ranks)
    if (const std::string line = line_of(rank); !line.empty() && std::ranges::find(lines, line) == lines.end())
      lines.push_back(line);
  return lines;
}

std::string limit_text(const std::optional<std::uint64_t>& bytes) { return bytes ? format_bytes(*bytes) : "no limit"; }

std::string place_text(const FolderFacts& folder) {
  if (folder.kind.empty()) return fmt::format("'{}'", folder.path);
  return fmt::format("'{}' on {} ({})", folder.path, folder.kind, folder.source);
}

std::string gpu_line(const RankFacts& rank) {
  const GpuFacts& gpu = rank.gpu;
  if (gpu.own)
    return fmt::format("{}: {} at {}, {} of {} free; driver {}, CUDA {}", rank.launch.host, gpu.own->name, gpu.own->bus,
                       format_bytes(gpu.own->free_bytes), format_bytes(gpu.own->total_bytes), gpu.driver, gpu.runtime);
  return fmt::format(
      "{}: computes on processors; {}{}", rank.launch.host,
      gpu.compiled ? fmt::format("this build has CUDA {}", gpu.runtime) : "this build has no CUDA",
      gpu.driver.empty()
          ? ", the machine no NVIDIA driver"
          : fmt::format(", the machine driver {} with {}", gpu.driver,
                        gpu.on_machine.empty() ? "no GPU" : fmt::format("{}", fmt::join(gpu.on_machine, ", "))));
}

}  // namespace

std::vector<std::string> see_program(AllRanks ranks) {
  return lines_of(ranks, [](const RankFacts& rank) {
    const ProgramFacts& p = rank.program;
    return fmt::format("{}: {}, {}, {}, glibc {}; {}, kernels {}; {}", rank.launch.host, p.version, p.compiler, p.mpi,
                       p.glibc, p.processor, p.kernels, p.system);
  });
}

std::vector<std::string> see_launch(AllRanks ranks) {
  std::vector<std::string> lines;
  for (const auto& [boot, members] : group_ranks(ranks, [](const RankFacts& rank) { return rank.launch.boot; }))
    lines.push_back(fmt::format("{}: {} {}", ranks[static_cast<std::size_t>(members.front())].launch.host,
                                members.size() == 1 ? "rank" : "ranks", fmt::join(members, ", ")));
  return lines;
}

std::vector<std::string> see_machine(AllRanks ranks) {
  return lines_of(ranks, [](const RankFacts& rank) -> std::string {
    if (rank.launch.local_rank != 0) return "";
    const MachineFacts& m = rank.machine;
    return fmt::format("{}: {} of {} processors; {} of {} memory free; may lock {}; {} open files", rank.launch.host,
                       m.processors_available, m.processors, format_bytes(m.available_bytes),
                       format_bytes(m.memory_bytes), limit_text(m.locked_bytes),
                       m.open_files ? std::to_string(*m.open_files) : "any number of");
  });
}

std::vector<std::string> see_gpu(AllRanks ranks) { return lines_of(ranks, gpu_line); }

std::vector<std::string> see_disk(AllRanks ranks) {
  return lines_of(ranks, [](const RankFacts& rank) -> std::string {
    const DiskFacts& d = rank.disk;
    if (rank.launch.local_rank != 0 || !d.folder.problem.empty()) return "";
    std::string text = fmt::format("{}: {}, {} free, {}, {}", rank.launch.host, place_text(d.folder),
                                   format_bytes(d.folder.free_bytes), d.direct ? "direct" : "buffered",
                                   d.uring_refusal.empty() ? "io_uring" : "pread");
    if (d.read_bytes_per_second > 0)
      text += fmt::format("; reads {:.0f}, writes {:.0f} MB/s", d.read_bytes_per_second * 1e-6,
                          d.write_bytes_per_second * 1e-6);
    return text;
  });
}

std::vector<std::string> see_output(AllRanks ranks) {
  const OutputFacts& output = *ranks.front().output;
  if (!output.folder.problem.empty()) return {};
  return {fmt::format("{}: {}, {} free", ranks.front().launch.host, place_text(output.folder),
                      format_bytes(output.folder.free_bytes))};
}

std::vector<std::string> see_model(AllRanks ranks) {
  return lines_of(ranks, [](const RankFacts& rank) -> std::string {
    if (!rank.model || !rank.model->folder.problem.empty()) return "";
    const ModelFacts& model = *rank.model;
    std::uint64_t bytes = 0;
    for (const FileFacts& file : model.files) bytes += file.bytes;
    return fmt::format("{}: {}, {} files, {}; read of each: {} at three places", rank.launch.host,
                       place_text(model.folder), model.files.size(), format_bytes(bytes),
                       format_bytes(model.part_bytes));
  });
}

std::vector<std::string> see_network(AllRanks ranks) {
  return lines_of(ranks, [](const RankFacts& rank) {
    std::string text;
    for (const InterfaceFacts& one : rank.network.interfaces)
      text += fmt::format("{}{} {}/{}{}", text.empty() ? "" : ", ", one.name, one.address, one.prefix_bits,
                          one.megabits_per_second > 0 ? fmt::format(" {} Mb/s", one.megabits_per_second) : "");
    return fmt::format("{}: {}", rank.launch.host, text.empty() ? "loopback alone" : text);
  });
}

std::vector<std::string> see_clocks(const std::vector<ClockFacts>& clocks) {
  double farthest = 0, uncertainty = 0;
  for (const ClockFacts& clock : clocks) {
    farthest = std::max(farthest, std::abs(clock.offset_seconds));
    uncertainty = std::max(uncertainty, clock.uncertainty_seconds);
  }
  return {fmt::format("at most {:.3f} ms from rank 0's, give or take {:.3f} ms", farthest * 1e3, uncertainty * 1e3)};
}

std::vector<std::string> see_links(const LinkFigures& figures) {
  std::vector<std::string> lines;
  for (const LinkFacts& link : figures.links)
    lines.push_back(fmt::format("ranks {} and {}{}: {:.1f} us, {:.0f} MB/s, back {:.0f} MB/s", link.from, link.to,
                                link.same_machine ? ", one machine" : "", link.latency_seconds * 1e6,
                                link.bytes_per_second * 1e-6, link.bytes_per_second_back * 1e-6));
  if (figures.num_left_out > 0)
    lines.push_back(fmt::format("{} more were left out: time was up", figures.num_left_out));
  return lines;
}

}  // namespace flexgen

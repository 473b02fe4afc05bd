#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "app/commands.hpp"
#include "app/machine.hpp"
#include "app/matrix_probe.hpp"
#include "app/profile_file.hpp"
#include "app/profile_table.hpp"
#include "app/transports.hpp"
#include "app/version.hpp"
#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "base/processors.hpp"
#include "comm/link_probe.hpp"
#include "comm/nccl_transport.hpp"
#include "device/buffer.hpp"
#include "device/gpu_probe.hpp"
#include "device/host_traffic.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"
#include "ops/threads.hpp"
#include "storage/disk_probe.hpp"
#include "storage/host_memory.hpp"

namespace flexgen {
namespace {

void say(std::string_view what) { log::info(fmt::format("measuring: {}", what)); }

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32] = {};
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::vector<int> thread_counts(int num_processors, bool quick) {
  std::vector<int> counts{1};
  for (int n = 2; n < num_processors && !quick; n *= 2) counts.push_back(n);
  if (num_processors > 1) counts.push_back(num_processors);
  return counts;
}

HostProfile measure_host(bool quick) {
  HostProfile host;
  host.num_processors = num_available_processors();
  // Several times what caches hold, within what the machine has.
  const std::uint64_t wanted = quick ? 256 * MiB : 2 * GiB;
  const Buffer memory(MemoryKind::pageable, align_down(std::min(wanted, available_host_bytes() / 4), MiB), Device{});
  const std::span<std::byte> bytes{memory.data(), memory.size_bytes()};
  fill_host_memory(bytes, host.num_processors);
  const double window_seconds = quick ? 0.05 : 0.2;
  say("host memory");
  for (const int n : thread_counts(host.num_processors, quick)) {
    host.read.push_back({n, measure_host_traffic(HostTrafficKind::read, bytes, n, window_seconds, 3)});
    host.copy.push_back({n, measure_host_traffic(HostTrafficKind::copy, bytes, n, window_seconds, 3)});
  }
  return host;
}

HardwareProfile measure_machine(const Options& options, const Device& device) {
  HardwareProfile profile;
  profile.memory = measure_host(options.quick);
  profile.memory.matrix = measure_matrix(Device{}, options.quick, say);
  if (device.is_cuda()) {
    GpuProbe probe(device, options.quick);
    profile.gpu = probe.measure(say);
    profile.gpu->matrix = measure_matrix(device, options.quick, say);
  }
  DiskProbeOptions disk;
  disk.quick = options.quick;
  if (options.quick) {
    disk.file_bytes = 256 * MiB;
    disk.seconds_per_point = 0.15;
  }
  profile.disk = measure_disk(options.offload_dir, disk, say);
  return profile;
}

std::vector<LinkProfile> measure_links(MpiSession& session, const Options& options, const Device& device) {
  Communicator& ranks = session.communicator();
  std::vector<LinkProfile> links;
  if (ranks.size() == 1) return links;
  const bool distinct = one_gpu_each(device, ranks);
  if (options.transport == "nccl" && !(distinct && has_nccl()))
    throw AgreedError(ExitCode::usage,
                      "--transport nccl cannot be measured: it needs a GPU for every rank and a build with NCCL. Use "
                      "--transport mpi");
  std::unique_ptr<Transport> transport = session.make_transport();
  const auto measure_all = [&] {
    for (int from = 0; from + 1 < ranks.size(); ++from) {
      if (ranks.rank() == 0) say(fmt::format("{} from rank {} to {}", transport->name(), from, from + 1));
      links.push_back(measure_link(*transport, ranks, from, device, options.quick));
    }
  };
  if (options.transport != "nccl") measure_all();
  if (options.transport != "mpi" && distinct && has_nccl()) {
    transport = open_nccl(session, std::move(transport), device);
    measure_all();
  }
  ranks.barrier();
  return links;
}

// Rank 0's machine goes to --output; another machine's file has its host's name added.
std::filesystem::path output_path(const Options& options, const Communicator& ranks) {
  if (options.output.empty()) {
    std::filesystem::path path = default_profile_path(ranks.host());
    if (path.empty())
      throw UserError(ExitCode::usage, "there is no place for the profile", "neither HOME nor XDG_CACHE_HOME is set",
                      "Give --output FILE");
    return path;
  }
  std::filesystem::path path = options.output;
  if (ranks.rank() != 0)
    path.replace_filename(fmt::format("{}-{}{}", path.stem().string(), ranks.host(), path.extension().string()));
  return path;
}

}  // namespace

// One rank measures each machine while the others wait; then the links, one after another.
int run_profile(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  ranks.all_equal("the program's version", version_text());
  const bool speaks_for_machine = ranks.local_rank() == 0;
  Device device;
  HardwareProfile profile;
  ranks.agree_on_error([&] {
    device = choose_device(options, ranks);
    const std::filesystem::path output = output_path(options, ranks);
    if (!speaks_for_machine) return;
    if (!options.output.empty()) check_figure_file(output.string(), FigureKind::profile, "--output");
    set_num_loop_threads(num_available_processors());
    profile = measure_machine(options, device);
  });
  ranks.all_equal("the kind of device (give --device cpu or cuda)", device.is_cuda() ? "cuda" : "cpu");
  profile.links = measure_links(session, options, device);
  profile.program = version_text();
  profile.host = ranks.host();
  profile.measured_at = utc_now();
  profile.quick = options.quick;
  ranks.agree_on_error([&] {
    if (!speaks_for_machine) return;
    const std::filesystem::path output = output_path(options, ranks);
    if (options.output.empty()) make_profile_folder(output);
    save_profile(profile, output);
  });
  if (ranks.rank() == 0) {
    if (!options.quiet) write_fully(STDERR_FILENO, profile_table(profile));
    log::info("profile written to " + output_path(options, ranks).string());
  }
  return static_cast<int>(ExitCode::ok);
}

}  // namespace flexgen

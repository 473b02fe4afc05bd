#include <fmt/core.h>
#include <unistd.h>

#include <utility>

#include "app/commands.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "comm/nccl_transport.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"
#include "probe/profile_table.hpp"
#include "run/machine.hpp"
#include "run/measured_machine.hpp"
#include "run/profile_file.hpp"
#include "run/transports.hpp"
#include "run/version.hpp"

namespace flexgen {
namespace {

void say(std::string_view what) { log::info(fmt::format("measuring: {}", what)); }

std::vector<LinkProfile> measure_all_links(MpiSession& session, const Options& options, const Device& device) {
  Communicator& ranks = session.communicator();
  std::vector<LinkProfile> links;
  if (ranks.size() == 1) return links;
  const bool distinct = one_gpu_each(device, ranks);
  if (options.machine.transport == "nccl" && !(distinct && has_nccl()))
    throw AgreedError(ExitCode::usage,
                      "--transport nccl cannot be measured: it needs a GPU for every rank and a build with NCCL. Use "
                      "--transport mpi");
  std::unique_ptr<Transport> transport = session.make_transport();
  const auto measure_all = [&] {
    for (LinkProfile& link : measure_links(*transport, ranks, device, options.profile.quick, say))
      links.push_back(std::move(link));
  };
  if (options.machine.transport != "nccl") measure_all();
  if (options.machine.transport != "mpi" && distinct && has_nccl()) {
    transport = open_nccl(session, std::move(transport), device);
    measure_all();
  }
  ranks.barrier();
  return links;
}

// Rank 0's machine goes to --output; another machine's file has its host's name added.
std::filesystem::path output_path(const Options& options, const Communicator& ranks) {
  if (options.files.output.empty()) {
    std::filesystem::path path = default_profile_path(ranks.host());
    if (path.empty())
      throw UserError(ExitCode::usage, "there is no place for the profile", "neither HOME nor XDG_CACHE_HOME is set",
                      "Give --output FILE");
    return path;
  }
  std::filesystem::path path = options.files.output;
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
    device = choose_device(options.machine, ranks);
    const std::filesystem::path output = output_path(options, ranks);
    if (!speaks_for_machine) return;
    if (!options.files.output.empty()) check_figure_file(output.string(), FigureKind::profile, "--output");
    profile = measure_own_machine(options.machine, device, options.profile.quick, say);
  });
  ranks.all_equal("the kind of device (give --device cpu or cuda)", device.is_cuda() ? "cuda" : "cpu");
  profile.links = measure_all_links(session, options, device);
  ranks.agree_on_error([&] { sign_profile(profile, options.machine, device, options.profile.quick, ranks); });
  ranks.agree_on_error([&] {
    if (!speaks_for_machine) return;
    const std::filesystem::path output = output_path(options, ranks);
    if (options.files.output.empty()) make_profile_folder(output);
    save_profile(profile, output);
  });
  if (ranks.rank() == 0) {
    if (!options.files.quiet) write_fully(STDERR_FILENO, profile_table(profile));
    log::info("profile written to " + output_path(options, ranks).string());
  }
  return static_cast<int>(ExitCode::ok);
}

}  // namespace flexgen

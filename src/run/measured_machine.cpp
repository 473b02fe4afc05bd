#include "run/measured_machine.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "base/processors.hpp"
#include "ops/threads.hpp"
#include "probe/link_probe.hpp"
#include "probe/machine_probe.hpp"
#include "run/machine.hpp"
#include "run/version.hpp"

namespace flexgen {
namespace {

// What is measured in seconds must be repaid: a job of less arithmetic is over as soon.
constexpr double worth_measuring_host = 1e13;
constexpr double worth_measuring_gpu = 1e14;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32] = {};
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// Where it is kept, for people. A job needs no file.
std::string keep(const HardwareProfile& profile, const Communicator& ranks) {
  const std::filesystem::path path = default_profile_path(ranks.host());
  try {
    if (path.empty())
      throw UserError(ExitCode::file, "there is no place for it", "neither HOME nor XDG_CACHE_HOME is set");
    make_profile_folder(path);
    save_profile(profile, path);
    return path.string() + " (quick)";
  } catch (const UserError& error) {
    log::warn(fmt::format("the profile of {} is not kept: {}", ranks.host(), error.what()));
    return "as measured for this job";
  }
}

}  // namespace

std::vector<LinkProfile> measure_links(Transport& transport, Communicator& ranks, const Device& device, bool quick,
                                       const MeasureProgress& progress) {
  std::vector<LinkProfile> links;
  for (int from = 0; from + 1 < ranks.size(); ++from) {
    if (ranks.rank() == 0) progress(fmt::format("{} from rank {} to {}", transport.name(), from, from + 1));
    links.push_back(measure_link(transport, ranks, from, device, quick));
  }
  return links;
}

HardwareProfile measure_own_machine(const MachineRequest& request, const Device& device, bool quick,
                                    const MeasureProgress& progress) {
  set_num_loop_threads(num_available_processors());
  return measure_machine(device, request.offload_dir, quick, progress);
}

void sign_profile(HardwareProfile& profile, const MachineRequest& request, const Device& device, bool quick,
                  const Communicator& ranks) {
  const Budgets all = choose_budgets(request, device, ranks);
  profile.capacity = {all.gpu_bytes, all.dram_bytes, all.ssd_bytes};
  profile.program = version_text();
  profile.host = ranks.host();
  profile.measured_at = utc_now();
  profile.quick = quick;
}

bool wants_measuring(const MachineRequest& request, const Device& device, double operations,
                     const RankProfiles& profiles, Communicator& ranks) {
  const bool are_known = std::ranges::all_of(profiles, [](const auto& profile) { return profile.has_value(); });
  const bool is_worth_it = operations >= (device.is_cuda() ? worth_measuring_gpu : worth_measuring_host);
  const bool wants = request.measure == "always" || (request.measure == "auto" && !are_known && is_worth_it);
  return ranks.broadcast(wants ? "yes" : "no") == "yes";
}

void measure_unknown_machines(const MachineRequest& request, const Device& device, Transport& transport,
                              Communicator& ranks, RankProfiles& profiles) {
  const auto own = static_cast<std::size_t>(ranks.rank());
  const bool is_unknown = request.measure == "always" || !profiles[own];
  const auto begin = std::chrono::steady_clock::now();
  std::optional<HardwareProfile> profile;
  const auto no_words = [](std::string_view) {};
  if (is_unknown && ranks.local_rank() == 0) {
    log::info(fmt::format("{} has no hardware profile to plan by: measuring it quickly", ranks.host()));
    try {
      profile = measure_own_machine(request, device, true, no_words);
    } catch (const UserError& error) {
      log::warn(fmt::format("{} cannot be measured: {}", ranks.host(), error.what()));
    }
  }
  ranks.barrier();
  std::vector<LinkProfile> links = measure_links(transport, ranks, device, true, no_words);
  std::optional<LoadedProfile> measured;  // by the first rank of a machine
  if (profile) {
    profile->links = std::move(links);
    sign_profile(*profile, request, device, true, ranks);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    measured = {keep(*profile, ranks), *profile, {}};
    log::info(
        fmt::format("measured {} in {:.1f} s; flexgen-dist profile measures longer and better", ranks.host(), seconds));
  }
  const RankProfiles all = exchange_profiles(measured, ranks);
  for (std::size_t r = 0; r < profiles.size(); ++r) {
    const auto first = static_cast<std::size_t>(ranks.place(static_cast<int>(r)).node);
    if (all[first]) profiles[r] = all[first];
  }
}

}  // namespace flexgen

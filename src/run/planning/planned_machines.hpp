// The machines of a job as the planner wants them: those that ranks run on, or others of which there is a profile.
// Plain data, and one function that builds the planner's view of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.hpp"
#include "comm/communicator.hpp"
#include "device/device.hpp"
#include "policy/planner/planner.hpp"
#include "run/job_request.hpp"
#include "run/rank_profiles.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

/// A rank's part of a machine.
struct PlannedMachine {
  std::string host;
  Budgets budgets;
  HardwareProfile profile;
  bool on_gpu = false;
  bool reads_pinned_memory = true;
  std::int32_t num_loop_threads = 1;  // of the host's ops
  MachineShare share;                 // of its processors, memory and disk
  static constexpr auto fields() {
    return std::tuple(field("host", &PlannedMachine::host), field("budgets", &PlannedMachine::budgets),
                      field("profile", &PlannedMachine::profile), field("on_gpu", &PlannedMachine::on_gpu),
                      field("reads_pinned_memory", &PlannedMachine::reads_pinned_memory),
                      field("num_loop_threads", &PlannedMachine::num_loop_threads),
                      field("share", &PlannedMachine::share));
  }
};

/// Those that the ranks run on, by rank; none without a profile of each. Collective.
/// @param profiles  by rank
std::optional<std::vector<PlannedMachine>> machines_of_ranks(const RankProfiles& profiles, const Device& device,
                                                             const Budgets& budgets, Communicator& ranks);

/// Others: files of profiles, separated by commas, each for one rank on a machine of its own, or FILE*N for so many.
/// Budgets are what the request says, else what a profile's capacity leaves.
/// Throws UserError (file, usage): what cannot be read, or does not say how much memory there is.
std::vector<PlannedMachine> machines_elsewhere(const std::string& profiles, const MachineRequest& request);

/// @param transport            "mpi" or "nccl"; empty for a single rank
/// @param hidden_through_host  a GPU's hidden states cross host memory on their way to the next rank
std::vector<RankToPlan> ranks_to_plan(const std::vector<PlannedMachine>& machines, const ModelSpec& model,
                                      const JobShape& shape, const std::string& transport, bool hidden_through_host);

}  // namespace flexgen

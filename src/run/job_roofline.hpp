// The roofline of a job that has run: hardware profiles of all ranks, the bound, what was measured beside it, and what
// the cost model predicts for such a job.
#pragma once

#include <optional>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/transport.hpp"
#include "device/device.hpp"
#include "job/report.hpp"
#include "model/layer.hpp"
#include "run/profile_file.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Collective. By rank: the profile of its machine. Throws AgreedError (file) for a file that was named and cannot be
/// read.
/// @param file  of `--profile`, or empty
std::vector<std::optional<LoadedProfile>> gather_profiles(const std::string& file, Communicator& ranks);

/// Machines without one are taken to be like rank 0's.
void lend_profiles(std::vector<std::optional<LoadedProfile>>& profiles);

/// Collective. Sets what each rank has of its machine: of the processors as its loops have them, of the rest as much as
/// the other ranks there.
void share_machines(std::vector<std::optional<LoadedProfile>>& profiles, Communicator& ranks);

/// What ran. Refers to what the caller holds.
struct RanJob {
  const ModelSpec& model;
  const JobPolicy& policy;
  const JobShape& shape;
  const std::vector<std::optional<LoadedProfile>>& profiles;
  const Device& device;
  const Transport& transport;
  const Communicator& ranks;
};

/// Rank 0: fills `report.roofline` and `report.predicted` from the report's ranks, job and timing; without profiles
/// both stay empty and one line says how to get them.
void add_roofline(Report& report, const RanJob& job);

}  // namespace flexgen

// The hardware profiles of a job's ranks, each of the machine that the rank runs on, and what the rank has of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "run/profile_file.hpp"

namespace flexgen {

/// By rank; none where the machine has no profile.
using RankProfiles = std::vector<std::optional<LoadedProfile>>;

/// Collective. What every rank has found for itself.
RankProfiles exchange_profiles(const std::optional<LoadedProfile>& own, Communicator& ranks);

/// Collective. Those of the ranks' machines. Throws AgreedError (file) for a file that was named and cannot be read.
/// @param file  of `--profile`, or empty
RankProfiles gather_profiles(const std::string& file, Communicator& ranks);

/// Machines without one are taken to be like rank 0's.
void lend_profiles(RankProfiles& profiles);

/// Collective. Sets what each rank has of its machine: of the processors as its loops have them, of the rest as much as
/// the other ranks there.
void share_machines(RankProfiles& profiles, Communicator& ranks);

}  // namespace flexgen

// Measuring the machines of a job: what flexgen-dist profile keeps, and what a job measures by itself in some seconds
// where it finds no profile to plan by.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/transport.hpp"
#include "device/device.hpp"
#include "run/job_request.hpp"
#include "run/rank_profiles.hpp"

namespace flexgen {

using MeasureProgress = std::function<void(std::string_view what)>;

/// Collective. From every rank to the next, one after another; every rank gets all. Rank 0 says what comes.
std::vector<LinkProfile> measure_links(Transport& transport, Communicator& ranks, const Device& device, bool quick,
                                       const MeasureProgress& progress);

/// By the first rank of a machine while its others wait: memory, arithmetic, GPU, disk, on all processors that the
/// rank may use; the loops' threads stay so. Throws UserError as measure_machine.
HardwareProfile measure_own_machine(const MachineRequest& request, const Device& device, bool quick,
                                    const MeasureProgress& progress);

/// Fills in whose profile it is and what a rank may fill there. Throws UserError as choose_budgets.
void sign_profile(HardwareProfile& profile, const MachineRequest& request, const Device& device, bool quick,
                  const Communicator& ranks);

/// Collective. Whether machines that `profiles` (by rank) does not know are measured, as `request.measure` says.
/// @param operations  of the whole job, counted by rank 0
bool wants_measuring(const MachineRequest& request, const Device& device, double operations,
                     const RankProfiles& profiles, Communicator& ranks);

/// Collective. Measures them quickly, keeps each in its machine's default file, and fills `profiles` in. A machine that
/// cannot be measured is warned about and stays unknown.
void measure_unknown_machines(const MachineRequest& request, const Device& device, Transport& transport,
                              Communicator& ranks, RankProfiles& profiles);

}  // namespace flexgen

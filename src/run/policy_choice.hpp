// The policies of a job's ranks: as the flags say, the rest planned from the profiles of their machines, or without
// profiles chosen by the greedy fill.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "device/device.hpp"
#include "policy/stage_plan.hpp"
#include "run/job_request.hpp"
#include "run/rank_profiles.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Throws UserError (usage) where a part of the cache would lie on ssd, out of reach of attention on the host.
void require_cache_off_ssd(const Placement& placement);

/// Throws UserError (usage) where a micro-batch may not even bring one token of each of its rows; a budget of 0 is
/// none.
void require_token_for_each_row(std::int32_t token_budget, std::int32_t micro_batch_size);

/// Throws UserError (usage) where slices are not one of a layer or more for each rank, or do not make up the model.
void require_slices(const std::vector<std::int32_t>& slices, const ModelSpec& model, int num_ranks);

/// FlexGen's defaults where its flags are given in part.
inline constexpr std::int32_t default_micro_batch_size = 4;
inline constexpr std::int32_t default_num_micro_batches = 1;

/// All that a request asks for, and defaults for the rest; precision is each machine's own.
/// Throws UserError (usage) for what contradicts itself or the model.
JobPolicy requested_policy(const PolicyRequest& request, const ModelSpec& model, const JobShape& shape, int num_ranks);

/// Hosts that attend for a part of the rows do it for the same part on all ranks: that is the block's cut.
/// Throws UserError (usage) where they would not.
void cut_caches(JobPolicy& policy);

/// One line that is equal for policies that run alike: every rank's flags and layers.
std::string to_text(const JobPolicy& policy);

/// Collective. Ranks on unlike machines may choose differently: then all take what each has.
DType agree_on_dtype(DType mine, const Device& device, Communicator& ranks);

/// What all ranks know alike of a job that is to be planned. Refers to what the caller holds.
struct JobOutline {
  const ModelSpec& model;
  const JobShape& shape;
  const Device& device;
  std::string transport = {};        // "mpi" or "nccl"; empty for a single rank
  bool hidden_through_host = false;  // a GPU's hidden states cross host memory on their way to the next rank

  /// What a rank's plan is made from.
  PlanInput stage_input(const JobPolicy& policy, std::size_t rank) const;
};

/// Collective. Throws AgreedError on every rank when it does not fit one of them.
/// @param budgets   this rank's
/// @param profiles  by rank, of its machine, where it has one
JobPolicy choose_policy(const PolicyRequest& request, const JobOutline& job, const Budgets& budgets,
                        const RankProfiles& profiles, Communicator& ranks);

}  // namespace flexgen

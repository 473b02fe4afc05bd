// The job's policy: as the flags say, the rest chosen by the greedy fill, the same on every rank.
#pragma once

#include <vector>

#include "comm/communicator.hpp"
#include "device/device.hpp"
#include "model/layer.hpp"
#include "run/job_request.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Throws UserError (usage) where a part of the cache would lie on ssd, out of reach of attention on the host.
void require_cache_off_ssd(const Placement& placement);

/// Collective. Throws AgreedError on every rank when it does not fit one of them.
Policy choose_policy(const PolicyRequest& request, const ModelSpec& model, const std::vector<SliceBounds>& slices,
                     const JobShape& shape, const Device& device, const Budgets& budgets, Communicator& ranks);

}  // namespace flexgen

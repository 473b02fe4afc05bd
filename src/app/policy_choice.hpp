// The job's policy: as the flags say, the rest chosen by the greedy fill, the same on every rank.
#pragma once

#include <vector>

#include "app/options.hpp"
#include "comm/communicator.hpp"
#include "device/device.hpp"
#include "model/layer.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Collective. Throws AgreedError on every rank when it does not fit one of them.
Policy choose_policy(const Options& options, const ModelSpec& model, const std::vector<SliceBounds>& slices,
                     const JobShape& shape, const Device& device, const Budgets& budgets, Communicator& ranks);

}  // namespace flexgen

// The roofline of a job that has run: the bound by the ranks' hardware profiles, what was measured beside it, and what
// the cost model predicts for such a job.
#pragma once

#include "comm/communicator.hpp"
#include "comm/transport.hpp"
#include "device/device.hpp"
#include "job/report.hpp"
#include "model/layer.hpp"
#include "run/rank_profiles.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// What ran. Refers to what the caller holds.
struct RanJob {
  const ModelSpec& model;
  const JobPolicy& policy;
  const JobShape& shape;
  const RankProfiles& profiles;
  const Device& device;
  const Transport& transport;
  const Communicator& ranks;
};

/// Rank 0: fills `report.roofline` and `report.predicted` from the report's ranks, job and timing; without profiles
/// both stay empty and one line says how to get them.
void add_roofline(Report& report, const RanJob& job);

}  // namespace flexgen

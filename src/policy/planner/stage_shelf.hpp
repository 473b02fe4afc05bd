// What stages are planned with, made once and kept: a description of a slice is dear to make and to copy, its policy is
// cheap to change. Belongs to one search, of one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <tuple>

#include "policy/roofline.hpp"
#include "spec/slice_description.hpp"

namespace flexgen {

/// A rank's machine, to the planner.
struct RankToPlan {
  /// What the rank is planned with under a policy. Its links to neighbours are left to the planner.
  std::function<StageInput(const Policy& policy, const SliceBounds& slice)> stage;
  std::int32_t kind = 0;  // ranks of one kind have equal machines and budgets
  std::string host;       // whose memory and disk it shares with other ranks there
};

/// The rank's stage as a part of a pipeline: it receives unless it has the embedding, and sends unless it has the head.
StageInput stage_in_pipeline(const RankToPlan& rank, const SliceBounds& slice, const Policy& policy);

class StageShelf {
 public:
  /// The rank's stage under the policy; it may be changed, and is good until the same is asked for again. Slices of as
  /// many layers are taken to be alike.
  StageInput& at(const RankToPlan& rank, const SliceBounds& slice, const Policy& policy);

 private:
  using Formats = std::tuple<DType, std::int32_t, std::int32_t, std::int32_t, std::int32_t>;
  using Key = std::tuple<std::int32_t, std::int32_t, bool, bool, bool, Formats>;
  std::map<Key, StageInput> stages_;
};

}  // namespace flexgen

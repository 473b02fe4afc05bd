#include "policy/planner/stage_shelf.hpp"

namespace flexgen {

StageInput stage_in_pipeline(const RankToPlan& rank, const SliceBounds& slice, const Policy& policy) {
  StageInput stage = rank.stage(policy, slice);
  stage.plan.links.receives = !slice.has_embedding;
  stage.plan.links.sends = !slice.has_head;
  return stage;
}

StageInput& StageShelf::at(const RankToPlan& rank, const SliceBounds& slice, const Policy& policy) {
  const Formats formats{policy.dtype, policy.weight_format.bits, policy.weight_format.group, policy.cache_format.bits,
                        policy.cache_format.group};
  const Key key{rank.kind,      slice.num_decoder_layers, slice.has_embedding,
                slice.has_head, policy.separate_layers,   formats};
  auto found = stages_.find(key);
  if (found == stages_.end()) found = stages_.emplace(key, stage_in_pipeline(rank, slice, policy)).first;
  found->second.plan.policy = policy;
  return found->second;
}

}  // namespace flexgen

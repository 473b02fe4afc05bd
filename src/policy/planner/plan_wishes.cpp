#include "policy/planner/plan_wishes.hpp"

namespace flexgen {

const StageWishes& PlanWishes::of_rank(std::size_t rank) const {
  static const StageWishes none;
  if (stages.empty()) return none;
  return stages.size() == 1 ? stages.front() : stages.at(rank);
}

}  // namespace flexgen

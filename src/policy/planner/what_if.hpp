// What more of something would bring: the job planned again with it. Pure arithmetic.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/fields.hpp"
#include "policy/planner/planner.hpp"

namespace flexgen {

struct WhatIf {
  std::string change;  // "one more GiB of GPU memory"
  double seconds = 0;
  double tokens_per_second = 0;
  static constexpr auto fields() {
    return std::tuple(field("change", &WhatIf::change), field("seconds", &WhatIf::seconds),
                      field("tokens_per_second", &WhatIf::tokens_per_second));
  }
};

/// Of memory, disk, one GPU and one box more, those that can matter; the search begins at the plan's own block.
std::vector<WhatIf> what_more_brings(std::span<const RankToPlan> ranks, const PlanQuestion& question,
                                     const PlannedJob& planned);

}  // namespace flexgen

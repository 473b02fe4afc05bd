// How long a job is predicted to take: as long as its resources need at least. Pure arithmetic.
#pragma once

#include <span>
#include <vector>

#include "policy/roofline.hpp"

namespace flexgen {

struct Prediction {
  double seconds = 0;
  double tokens_per_second = 0;
  Ceiling binding = Ceiling::matrix;
};

/// Resources that take turns; groups work side by side.
inline std::vector<std::vector<Ceiling>> serial_groups(const StageInput&) {
  std::vector<std::vector<Ceiling>> groups;
  for (std::size_t c = 0; c < num_ceilings; ++c) groups.push_back({static_cast<Ceiling>(c)});
  return groups;
}

inline Prediction predict_run(std::span<const StageInput> stages, const RooflineJob& job) {
  const RunBound bound = bound_run(stages, job);
  return {bound.seconds, bound.tokens_per_second, bound.binding};
}

}  // namespace flexgen

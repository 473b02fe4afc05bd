#include "policy/planner/stage_lines.hpp"

#include <algorithm>

#include "policy/cost_model.hpp"

namespace flexgen {
namespace {

constexpr double least_host_percent = 1e-6;  // the switch is on, no row's share is rounded up to it

double& at(PartShares& shares, Part part) { return shares[static_cast<std::size_t>(part)]; }
double at(const PartShares& shares, Part part) { return shares[static_cast<std::size_t>(part)]; }

Share share_of(double gpu, double ssd) {
  const double dram = std::max(0.0, 1 - gpu - ssd);
  return {100 * gpu, gpu + dram >= 1 - 1e-9 ? 100 - 100 * gpu : 100 * dram};
}

// Everything that becomes a line, at one point.
struct Point {
  std::array<double, num_tiers> memory;
  std::array<std::array<double, num_ceilings>, num_phases> seconds;
};

Point point_at(StageInput& stage, const RooflineJob& job, const PartShares& shares) {
  place_parts(shares, stage.plan.policy);
  const SweepCost cost(stage);
  const std::array<Needs, num_phases> needs = phase_needs(cost, job);
  Point point{};
  for (std::size_t t = 0; t < num_tiers; ++t)
    point.memory[t] = static_cast<double>(cost.memory().tier(static_cast<TierKind>(t)).total());
  for (std::size_t p = 0; p < num_phases; ++p)
    for (std::size_t c = 0; c < num_ceilings; ++c) point.seconds[p][c] = needs[p][c].seconds;
  return point;
}

}  // namespace

void place_parts(const PartShares& shares, Policy& policy) {
  const double cache_gpu = at(shares, Part::cache_gpu);
  policy.placement.weights = share_of(at(shares, Part::weights_gpu), at(shares, Part::weights_ssd));
  policy.placement.cache = share_of(cache_gpu, at(shares, Part::cache_ssd));
  if (!policy.uses_host_attention()) return;
  const double dram = policy.placement.cache.dram();
  const double attended = dram > 0 ? at(shares, Part::cache_host) / dram : 0;
  policy.host_attention_percent = std::clamp(100 * attended, least_host_percent, 100.0);
}

PartShares parts_of(const Policy& policy) {
  PartShares shares{};
  const Share& weights = policy.placement.weights;
  const Share& cache = policy.placement.cache;
  at(shares, Part::weights_gpu) = weights.gpu();
  at(shares, Part::weights_ssd) = std::max(0.0, weights.ssd());
  at(shares, Part::cache_gpu) = cache.gpu();
  at(shares, Part::cache_ssd) = std::max(0.0, cache.ssd());
  at(shares, Part::cache_host) = cache.dram() * policy.host_attention_percent / 100;
  return shares;
}

double Line::at(const PartShares& shares) const {
  double value = base;
  for (std::size_t i = 0; i < num_parts; ++i) value += slopes[i] * shares[i];
  return value;
}

StageLines lines_of(StageInput& stage, const RooflineJob& job) {
  const Point base = point_at(stage, job, {});
  StageLines lines;
  for (std::size_t t = 0; t < num_tiers; ++t) lines.memory[t].base = base.memory[t];
  for (std::size_t p = 0; p < num_phases; ++p)
    for (std::size_t c = 0; c < num_ceilings; ++c) lines.phases[p][c].base = base.seconds[p][c];
  for (std::size_t i = 0; i < num_parts; ++i) {
    const auto part = static_cast<Part>(i);
    const bool by_host = stage.plan.policy.uses_host_attention();
    if (part == Part::cache_host && !by_host) continue;
    if (part == Part::cache_ssd && by_host) continue;  // out of the host's reach
    PartShares corner{};
    corner[i] = 1;
    const Point point = point_at(stage, job, corner);
    for (std::size_t t = 0; t < num_tiers; ++t) lines.memory[t].slopes[i] = point.memory[t] - base.memory[t];
    for (std::size_t p = 0; p < num_phases; ++p)
      for (std::size_t c = 0; c < num_ceilings; ++c)
        lines.phases[p][c].slopes[i] = point.seconds[p][c] - base.seconds[p][c];
  }
  return lines;
}

}  // namespace flexgen

// What a user has settled before a job is planned. Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "spec/policy.hpp"

namespace flexgen {

/// Of one rank.
struct StageWishes {
  std::optional<Placement> placement;
  std::optional<double> host_attention_percent;
  std::optional<bool> separate_layers;
  bool operator==(const StageWishes&) const = default;
};

/// What the user has settled; the rest is the planner's.
struct PlanWishes {
  std::optional<std::int32_t> micro_batch_size;
  std::optional<std::int32_t> num_micro_batches;
  std::optional<std::vector<std::int32_t>> slices;  // decoder layers by rank
  std::vector<StageWishes> stages;                  // by rank; of one for all, or none
  /// Forms of weights and cache that may be chosen, the most exact first: a coarser one must be worth it.
  std::vector<QuantFormat> weight_formats = std::vector<QuantFormat>(1);
  std::vector<QuantFormat> cache_formats = std::vector<QuantFormat>(1);
  std::int32_t most_rows = 4096;  // of a micro-batch
  /// Sizes of a block from which alone the search goes on to better neighbours, 0: over a grid of all.
  std::int32_t near_rows = 0;
  std::int32_t near_micro_batches = 0;

  const StageWishes& of_rank(std::size_t rank) const;
};

}  // namespace flexgen

// A plan as figures to be shown and kept: what each rank holds on each tier, what each of its resources does in each
// phase and for how long, and what the job is predicted to take. Plain data and the functions that work it out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fields.hpp"
#include "policy/planner/planner.hpp"

namespace flexgen {

/// Bytes of one tier.
struct PlannedTier {
  std::string tier;
  std::uint64_t weights_bytes = 0;
  std::uint64_t cache_bytes = 0;
  std::uint64_t hidden_bytes = 0;
  std::uint64_t staging_bytes = 0;
  std::uint64_t workspace_bytes = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t budget_bytes = 0;
  static constexpr auto fields() {
    return std::tuple(
        field("tier", &PlannedTier::tier), field("weights_bytes", &PlannedTier::weights_bytes),
        field("cache_bytes", &PlannedTier::cache_bytes), field("hidden_bytes", &PlannedTier::hidden_bytes),
        field("staging_bytes", &PlannedTier::staging_bytes), field("workspace_bytes", &PlannedTier::workspace_bytes),
        field("total_bytes", &PlannedTier::total_bytes), field("budget_bytes", &PlannedTier::budget_bytes));
  }
};

/// What a resource does in all sweeps of a phase.
struct PlannedResource {
  std::string name;
  double seconds = 0;
  double amount = 0;  // bytes; operations of "matrix"
  static constexpr auto fields() {
    return std::tuple(field("name", &PlannedResource::name), field("seconds", &PlannedResource::seconds),
                      field("amount", &PlannedResource::amount));
  }
};

struct PlannedPhase {
  std::string phase;
  double least_seconds = 0;
  std::vector<PlannedResource> resources;
  static constexpr auto fields() {
    return std::tuple(field("phase", &PlannedPhase::phase), field("least_seconds", &PlannedPhase::least_seconds),
                      field("resources", &PlannedPhase::resources));
  }
};

struct PlannedRank {
  std::string host;
  std::int32_t num_decoder_layers = 0;
  std::string flags;
  std::vector<PlannedTier> tiers;
  std::vector<PlannedPhase> phases;
  double least_seconds = 0;
  static constexpr auto fields() {
    return std::tuple(field("host", &PlannedRank::host), field("num_decoder_layers", &PlannedRank::num_decoder_layers),
                      field("flags", &PlannedRank::flags), field("tiers", &PlannedRank::tiers),
                      field("phases", &PlannedRank::phases), field("least_seconds", &PlannedRank::least_seconds));
  }
};

struct PlannedWay {
  double seconds = 0;
  double tokens_per_second = 0;
  double bound_tokens_per_second = 0;
  std::string binding_resource;
  std::string binding_phase;
  std::int32_t slowest_rank = 0;
  std::vector<PlannedRank> ranks;
  static constexpr auto fields() {
    return std::tuple(
        field("seconds", &PlannedWay::seconds), field("tokens_per_second", &PlannedWay::tokens_per_second),
        field("bound_tokens_per_second", &PlannedWay::bound_tokens_per_second),
        field("binding_resource", &PlannedWay::binding_resource), field("binding_phase", &PlannedWay::binding_phase),
        field("slowest_rank", &PlannedWay::slowest_rank), field("ranks", &PlannedWay::ranks));
  }
};

PlannedWay describe_way(std::span<const RankToPlan> ranks, const PlannedJob& way, const RooflineJob& job);

}  // namespace flexgen

// What one stage needs, as lines over where its tensors lie: the coefficients of the planner's linear programmes.
//
// The memory plan and the cost model are very nearly linear in the shares of weights and cache on each tier once sizes
// and switches are fixed. So both are asked at the corners, all of a class on one tier, and a line is laid through:
// whatever they count is in the programme, and nothing is counted twice. What is not linear (whole rows and heads,
// buffers that a tier needs as soon as anything lies there) is found when a solution is planned exactly.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "policy/roofline.hpp"

namespace flexgen {

/// Shares, 0 to 1, that differ from all weights and all cache in dram, attended where the layers are computed.
enum class Part : std::uint8_t {
  weights_gpu,
  weights_ssd,
  cache_gpu,
  cache_ssd,
  cache_host,  // of all cache, what lies in dram and is attended there
};
inline constexpr std::size_t num_parts = 5;
using PartShares = std::array<double, num_parts>;

/// The placement with these shares; hidden states stay as they are.
void place_parts(const PartShares& shares, Policy& policy);
/// And back.
PartShares parts_of(const Policy& policy);

/// base + the sum of slopes times shares.
struct Line {
  double base = 0;
  PartShares slopes{};
  double at(const PartShares& shares) const;
};

/// Seconds of the whole job in each phase of sweeps, by resource.
using PhaseLines = std::array<Line, num_ceilings>;
inline constexpr std::size_t num_phases = 3;

struct StageLines {
  std::array<Line, num_tiers> memory;  // bytes
  std::array<PhaseLines, num_phases> phases;
};

/// @param stage  sizes and switches as they are to be; whether the host attends for any row is one of them, the share
///               of rows is a part. Its shares are changed
StageLines lines_of(StageInput& stage, const RooflineJob& job);

}  // namespace flexgen

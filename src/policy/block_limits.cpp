#include "policy/block_limits.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "policy/spread.hpp"

namespace flexgen {
namespace {

// A prompt is not cut finer than this for the sake of an even flow: sweeps of so few tokens cost the same.
constexpr std::int32_t least_prompt_tokens = 256;

// Sweeps of a job that may pass until its blocks are full, at most one in so many; none of one that fills them once.
constexpr double sweeps_per_filling = 16;

// Prompt tokens of a micro-batch in a sweep. In the long run `flow` keeps it full; a job that has no long run reads as
// many as fill it in time.
double wanted_prompt_tokens(const BlockShape& block, const JobShape& job) {
  const double rows = block.micro_batch_size;
  const double flow = rows * static_cast<double>(job.prompt_tokens) / job.flight_sweeps;
  const auto num_rows = static_cast<double>(job.num_rows);
  const double in_flight = std::min(num_rows, static_cast<double>(block.block_rows() * block.num_groups));
  const double filling = num_rows > in_flight ? std::max(1.0, job.flight_sweeps / in_flight / sweeps_per_filling) : 1.0;
  return std::max(2 * flow, rows * static_cast<double>(job.prompt_tokens) / num_rows / filling);
}

std::int32_t longest_row(const JobShape& job) { return whole_grains(std::max(1, job.max_row_tokens)); }

// The rows of a slot whose cache lies on gpu, those whose cache is brought to the device, those that the host attends
// for: each a run of the slot's positions, the last of which may be cut short.
std::vector<CacheBand> bands_of_rows(std::int32_t positions, std::int32_t rows, std::int32_t gpu_rows,
                                     std::int32_t host_rows) {
  const auto up_to = [&](std::int32_t row) {
    return row == rows ? positions : positions / rows * row / cache_grain * cache_grain;
  };
  const std::int32_t gpu_end = up_to(gpu_rows), loaded_end = up_to(rows - host_rows);
  std::vector<CacheBand> bands;
  const auto add = [&](std::int32_t count, const Share& share, bool attended_by_host) {
    if (count > 0) bands.push_back({count, share, attended_by_host});
  };
  add(gpu_end, {100, 0}, false);
  add(loaded_end - gpu_end, {0, 100}, false);
  add(positions - loaded_end, {0, 100}, true);
  return bands;
}

void make_room_for(std::int32_t longest, std::vector<CacheBand>& bands) {
  const auto largest = std::ranges::max_element(bands, {}, &CacheBand::num_positions);
  largest->num_positions = std::max(largest->num_positions, longest);
}

}  // namespace

std::int32_t cache_positions(const BlockShape& block, const JobShape& job) {
  const std::int32_t longest = longest_row(job);
  const std::int32_t most = block.micro_batch_size * longest;
  if (block.rule == BlockRule::fixed || job.flight_sweeps <= 0) return most;
  const double mean = job.flight_positions / job.flight_sweeps;
  const double variance = std::max(0.0, job.flight_squares / job.flight_sweeps - mean * mean);
  const double rows = block.micro_batch_size;
  // Half a grain more each, on average; where all are alike, what they take.
  const double row = variance > 0 ? mean + cache_grain / 2.0 : longest;
  const double positions = std::ceil(rows * row + std::sqrt(rows * variance) - 1e-9 * cache_grain);  // but for rounding
  return std::clamp(whole_grains(static_cast<std::int32_t>(positions)), longest, most);
}

std::int32_t micro_batch_tokens(const BlockShape& block, const JobShape& job) {
  const std::int64_t rows = block.micro_batch_size;
  const std::int64_t most = rows * std::max(1, job.max_prompt_tokens);
  std::int64_t tokens = most;
  if (block.token_budget > 0) {
    tokens = std::min<std::int64_t>(block.token_budget, most);
  } else if (block.rule == BlockRule::rolling && job.flight_sweeps > 0) {
    const std::int64_t prompts = std::llround(wanted_prompt_tokens(block, job));
    tokens = std::min(most, rows + std::max<std::int64_t>(least_prompt_tokens, prompts));
  }
  return static_cast<std::int32_t>(std::max(rows, tokens));
}

std::vector<std::vector<CacheBand>> cache_bands(const Policy& policy, const JobShape& job) {
  const std::int32_t positions = cache_positions(policy, job);
  const std::int32_t rows = policy.micro_batch_size;
  const CacheCut own = policy.own_cut();
  const CacheCut cut = policy.cache_cut.is_cut() ? policy.cache_cut : own;
  FLEXGEN_CHECK(!own.is_cut() || own == cut, "a rank cuts its cache otherwise than the others");
  const CacheBand alike{positions, policy.placement.cache, policy.uses_host_attention()};
  Spread gpu(cut.gpu_percent / 100);
  Spread host((1 - cut.gpu_percent / 100) * cut.host_percent / 100);
  std::vector<std::vector<CacheBand>> slots;
  for (std::int32_t slot = 0; slot < policy.num_micro_batches * policy.num_groups; ++slot) {
    if (!cut.is_cut()) {
      slots.push_back({alike});
      continue;
    }
    const auto all = static_cast<std::uint64_t>(rows);
    const std::uint64_t gpu_rows = gpu.take(all, 1, all);
    const std::uint64_t host_rows = host.take(all, 1, all - gpu_rows);
    slots.push_back(
        bands_of_rows(positions, rows, static_cast<std::int32_t>(gpu_rows), static_cast<std::int32_t>(host_rows)));
    make_room_for(longest_row(job), slots.back());
    if (own.is_cut()) continue;
    for (CacheBand& band : slots.back()) band = {band.num_positions, alike.share, alike.attended_by_host};
  }
  return slots;
}

BlockLimits block_limits(const Policy& policy, const JobShape& job) {
  BlockLimits limits;
  for (const std::vector<CacheBand>& bands : cache_bands(policy, job)) {
    CacheSpace& space = limits.slots.emplace_back();
    for (const CacheBand& band : bands) space.bands.push_back(band.num_positions);
  }
  limits.num_tokens = micro_batch_tokens(policy, job);
  return limits;
}

}  // namespace flexgen

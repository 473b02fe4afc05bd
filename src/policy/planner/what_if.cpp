#include "policy/planner/what_if.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace flexgen {
namespace {

constexpr std::uint64_t gib = 1ULL << 30;
constexpr std::uint64_t much_host_memory = 16 * gib;

using StageChange = std::function<void(StageInput&)>;

RankToPlan changed(const RankToPlan& rank, StageChange change) {
  RankToPlan other = rank;
  other.stage = [stage = rank.stage, change = std::move(change)](const Policy& policy, const SliceBounds& slice) {
    StageInput input = stage(policy, slice);
    change(input);
    return input;
  };
  return other;
}

std::vector<RankToPlan> all_changed(std::span<const RankToPlan> ranks, const StageChange& change) {
  std::vector<RankToPlan> others;
  for (const RankToPlan& rank : ranks) others.push_back(changed(rank, change));
  return others;
}

// A machine's memory and disk are shared out among one rank more than now.
void share_machine(double share, StageInput& stage) {
  stage.ceilings.host_read_bytes *= share;
  stage.ceilings.host_copy_bytes *= share;
  stage.ceilings.disk_read_bytes *= share;
  stage.ceilings.disk_write_bytes *= share;
  if (!stage.plan.on_gpu) stage.ceilings.matrix_operations *= share;
  stage.budgets.dram_bytes = static_cast<std::uint64_t>(share * static_cast<double>(stage.budgets.dram_bytes));
  stage.budgets.ssd_bytes = static_cast<std::uint64_t>(share * static_cast<double>(stage.budgets.ssd_bytes));
}

std::int32_t new_kind(std::span<const RankToPlan> ranks) {
  return std::ranges::max_element(ranks, {}, &RankToPlan::kind)->kind + 1;
}

std::vector<RankToPlan> with_a_box(std::span<const RankToPlan> ranks) {
  std::vector<RankToPlan> more(ranks.begin(), ranks.end());
  more.push_back(ranks.front());
  more.back().host += " (one more)";
  return more;
}

// In the first rank's machine.
std::vector<RankToPlan> with_a_gpu(std::span<const RankToPlan> ranks) {
  const std::string& host = ranks.front().host;
  const auto there = static_cast<double>(std::ranges::count(ranks, host, &RankToPlan::host));
  const double share = there / (there + 1);
  const std::int32_t kinds = new_kind(ranks);
  std::vector<RankToPlan> more;
  for (const RankToPlan& rank : ranks) {
    if (rank.host != host) {
      more.push_back(rank);
      continue;
    }
    more.push_back(changed(rank, [share](StageInput& stage) { share_machine(share, stage); }));
    more.back().kind += kinds;  // unlike those of other machines
  }
  more.insert(more.begin(), more.front());
  return more;
}

struct Question {
  std::string change;
  std::vector<RankToPlan> ranks;
};

std::vector<Question> questions(std::span<const RankToPlan> ranks, const PlannedJob& planned) {
  const StageInput first = stages_of(ranks, planned.policy).front();
  const bool uses_disk = std::ranges::any_of(planned.policy.stages, [](const StagePolicy& stage) {
    return stage.placement.weights.ssd() > 1e-9 || stage.placement.cache.ssd() > 1e-9;
  });
  const std::string fast_tier = first.plan.on_gpu ? "GPU memory" : "memory of the gpu tier (--gpu-mem)";
  const std::string each = ranks.size() > 1 ? " for every rank" : "";
  std::vector<Question> all;
  all.push_back({"one more GiB of " + fast_tier + each,
                 all_changed(ranks, [](StageInput& stage) { stage.budgets.gpu_bytes += gib; })});
  all.push_back({"16 more GiB of host memory" + each,
                 all_changed(ranks, [](StageInput& stage) { stage.budgets.dram_bytes += much_host_memory; })});
  if (uses_disk)
    all.push_back({"a disk twice as fast" + each, all_changed(ranks, [](StageInput& stage) {
                     stage.ceilings.disk_read_bytes *= 2;
                     stage.ceilings.disk_write_bytes *= 2;
                   })});
  if (first.plan.on_gpu)
    all.push_back({"one more such GPU in " + (ranks.size() > 1 ? "the first rank's box" : std::string("this box")),
                   with_a_gpu(ranks)});
  all.push_back({ranks.size() > 1 ? "one more box like the first rank's" : "one more such box", with_a_box(ranks)});
  return all;
}

}  // namespace

std::vector<WhatIf> what_more_brings(std::span<const RankToPlan> ranks, const PlanQuestion& question,
                                     const PlannedJob& planned) {
  std::vector<WhatIf> answers;
  for (const Question& asked : questions(ranks, planned)) {
    PlanQuestion other = question;
    const bool has_one_more = asked.ranks.size() > ranks.size();
    other.wishes.near_rows = planned.policy.block.micro_batch_size;
    other.wishes.near_micro_batches = planned.policy.block.num_micro_batches;
    other.wishes.weight_formats = {planned.policy.block.weight_format};
    other.wishes.cache_formats = {planned.policy.block.cache_format};
    other.sizes.num_groups = static_cast<std::int32_t>(asked.ranks.size());
    if (has_one_more) {
      if (question.model.num_layers < static_cast<std::int32_t>(asked.ranks.size())) continue;
      other.wishes.slices.reset();
      if (other.wishes.stages.size() > 1) other.wishes.stages.clear();
      other.wishes.near_rows = 0;  // a slice that lies on its GPU may want another block altogether
    }
    const JobPlan plan = plan_job(asked.ranks, other, 1);
    if (plan.ways.empty()) continue;
    const Prediction& prediction = plan.ways.front().prediction;
    answers.push_back({asked.change, prediction.seconds, prediction.tokens_per_second});
  }
  return answers;
}

}  // namespace flexgen

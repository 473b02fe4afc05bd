#include "policy/planner/planner.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr double worth_a_move = 1e-3;        // of the seconds: less is the arithmetic's own error
constexpr double worth_coarser_form = 0.03;  // what more compression must bring, for it costs accuracy
constexpr std::size_t num_refined = 4;       // of the coarse grid's best
constexpr std::array<double, 8> steps{0.5, 0.75, 0.875, 0.9375, 1.0625, 1.125, 1.25, 1.5};

struct BlockSizes {
  std::int32_t rows = 1;           // B
  std::int32_t micro_batches = 1;  // K
  bool operator==(const BlockSizes&) const = default;
  bool operator<(const BlockSizes& other) const {
    return rows != other.rows ? rows < other.rows : micro_batches < other.micro_batches;
  }
};

bool is_faster(const PlannedJob& one, const PlannedJob& than) {
  return one.prediction.seconds < than.prediction.seconds;
}

// Sizes of blocks for one pair of formats. What takes `worst_seconds` at least is left out.
class SizeSearch {
 public:
  SizeSearch(SliceSearch& slices, const Policy& sizes, const PlanWishes& wishes, std::int64_t num_rows,
             double worst_seconds)
      : slices_(slices), sizes_(sizes), wishes_(wishes), best_seconds_(worst_seconds) {
    const std::int64_t groups = std::max(1, sizes.num_groups);
    rows_per_group_ = std::max<std::int64_t>(1, (num_rows + groups - 1) / groups);
  }

  void run() {
    if (wishes_.near_rows > 0) return refine({wishes_.near_rows, wishes_.near_micro_batches});
    for (const BlockSizes& block : coarse_grid()) try_block(block);
    std::vector<PlannedJob> best = ways();
    if (best.size() > num_refined) best.resize(num_refined);
    for (const PlannedJob& way : best) refine({way.policy.block.micro_batch_size, way.policy.block.num_micro_batches});
  }

  // What was found, the fastest first.
  std::vector<PlannedJob> ways() const {
    std::vector<PlannedJob> all;
    for (const auto& [block, way] : tried_)
      if (way) all.push_back(*way);
    std::ranges::stable_sort(all, is_faster);
    return all;
  }
  std::size_t num_tried() const { return tried_.size(); }

 private:
  // Powers of two, and what takes all rows at once.
  std::vector<BlockSizes> coarse_grid() const {
    std::vector<BlockSizes> grid;
    for (std::int64_t rows = 1;; rows *= 2) {
      const std::int64_t b = std::min<std::int64_t>({rows, rows_per_group_, wishes_.most_rows});
      for (std::int64_t k = 1; k <= 32 && (k == 1 || (k - 1) * b < rows_per_group_); k *= 2)
        grid.push_back({static_cast<std::int32_t>(b), static_cast<std::int32_t>(k)});
      if (b < rows) break;
    }
    for (BlockSizes& block : grid) settle(block);
    std::sort(grid.begin(), grid.end());
    grid.erase(std::unique(grid.begin(), grid.end()), grid.end());
    return grid;
  }

  void settle(BlockSizes& block) const {
    block.rows = wishes_.micro_batch_size.value_or(block.rows);
    block.micro_batches = wishes_.num_micro_batches.value_or(block.micro_batches);
  }

  // To the best neighbour, as long as there is a better one.
  void refine(BlockSizes block) {
    while (true) {
      const std::optional<PlannedJob> here = try_block(block);
      if (!here) return;
      BlockSizes best = block;
      double seconds = here->prediction.seconds;
      for (const BlockSizes& neighbour : neighbours(block)) {
        const std::optional<PlannedJob> there = try_block(neighbour);
        if (!there || there->prediction.seconds > (1 - worth_a_move) * seconds) continue;
        seconds = there->prediction.seconds;
        best = neighbour;
      }
      if (best == block) return;
      block = best;
    }
  }

  std::vector<BlockSizes> neighbours(const BlockSizes& of) const {
    std::vector<BlockSizes> all;
    const auto add = [&](double rows, double micro_batches) {
      const std::int64_t b =
          std::clamp<std::int64_t>(std::llround(rows), 1, std::min<std::int64_t>(rows_per_group_, wishes_.most_rows));
      const std::int64_t k = std::max<std::int64_t>(1, std::llround(micro_batches));
      if (k > 1 && (k - 1) * b >= rows_per_group_) return;
      BlockSizes block{static_cast<std::int32_t>(b), static_cast<std::int32_t>(k)};
      settle(block);
      all.push_back(block);
    };
    for (const double step : steps) add(of.rows * step, of.micro_batches);
    for (const int step : {-1, 1}) {
      add(of.rows + step, of.micro_batches);
      const double k = of.micro_batches + step;
      if (k < 1) continue;
      add(of.rows, k);
      add(of.rows * of.micro_batches / k, k);  // as many rows, otherwise cut
    }
    // Of a job's rows so many that blocks, or fixed blocks' last one, are full.
    for (std::int64_t blocks = 1; blocks <= 4; ++blocks)
      add(std::ceil(static_cast<double>(rows_per_group_) / static_cast<double>(blocks * of.micro_batches)),
          of.micro_batches);
    return all;
  }

  std::optional<PlannedJob> try_block(const BlockSizes& block) {
    const auto known = tried_.find(block);
    if (known != tried_.end()) return known->second;
    Policy policy = sizes_;
    policy.micro_batch_size = block.rows;
    policy.num_micro_batches = block.micro_batches;
    std::optional<PlannedJob> way = slices_.run(policy, best_seconds_);
    if (way) best_seconds_ = std::min(best_seconds_, way->prediction.seconds);
    return tried_.emplace(block, std::move(way)).first->second;
  }

  SliceSearch& slices_;
  const Policy& sizes_;
  const PlanWishes& wishes_;
  std::int64_t rows_per_group_ = 1;
  double best_seconds_;
  std::map<BlockSizes, std::optional<PlannedJob>> tried_;
};

}  // namespace

JobPlan plan_job(std::span<const RankToPlan> ranks, const PlanQuestion& question, std::size_t most_ways) {
  FLEXGEN_CHECK(!ranks.empty(), "a job has at least one rank");
  const PlanWishes& wishes = question.wishes;
  SliceSearch slices(ranks, question.model, question.job, wishes);
  JobPlan plan;
  double least = std::numeric_limits<double>::infinity();  // of the forms so far
  for (const QuantFormat& weight_format : wishes.weight_formats)
    for (const QuantFormat& cache_format : wishes.cache_formats) {
      Policy formed = question.sizes;
      formed.weight_format = weight_format;
      formed.cache_format = cache_format;
      SizeSearch search(slices, formed, wishes, question.shape.num_rows, least);
      search.run();
      plan.num_tried += static_cast<std::int64_t>(search.num_tried());
      std::vector<PlannedJob> found = search.ways();
      if (found.empty()) continue;
      const double seconds = found.front().prediction.seconds;
      const bool is_worth_it = seconds < (1 - worth_coarser_form) * least;
      plan.ways.insert(is_worth_it ? plan.ways.begin() : plan.ways.end(), found.begin(), found.end());
      if (is_worth_it) least = seconds;
    }
  if (plan.ways.size() > 1) std::stable_sort(plan.ways.begin() + 1, plan.ways.end(), is_faster);
  if (plan.ways.size() > most_ways) plan.ways.resize(most_ways);
  return plan;
}

}  // namespace flexgen

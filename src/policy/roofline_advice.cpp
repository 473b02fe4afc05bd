#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "policy/roofline.hpp"

namespace flexgen {
namespace {

constexpr double worth_a_word = 1.03;
constexpr double step_percent = 10;

struct Change {
  std::string text;
  std::function<bool(Policy&)> apply;  // false: nothing to change
};

bool move_to_gpu(Share& share) {
  const double moved = std::min(step_percent, 100 - share.gpu_percent);
  if (moved <= 0) return false;
  share.gpu_percent += moved;
  share.dram_percent = std::clamp(share.dram_percent, 0.0, 100 - share.gpu_percent);
  return true;
}

bool move_to_dram(Share& share) {
  const double moved = std::min(step_percent, 100 - share.gpu_percent - share.dram_percent);
  if (moved <= 0) return false;
  share.dram_percent += moved;
  return true;
}

bool compress(QuantFormat& format) {
  if (!format.is_none()) return false;
  format.bits = 4;
  return true;
}

const std::vector<Change>& changes() {
  static const std::vector<Change> all{
      {"overlap (--overlap true)", [](Policy& p) { return !std::exchange(p.overlap, true); }},
      {"a block twice as large, by --num-gpu-batches", [](Policy& p) { return (p.num_micro_batches *= 2) > 0; }},
      {"a block twice as large, by --gpu-batch-size", [](Policy& p) { return (p.micro_batch_size *= 2) > 0; }},
      {"10 % more of the weights on the gpu tier", [](Policy& p) { return move_to_gpu(p.placement.weights); }},
      {"10 % more of the cache on the gpu tier", [](Policy& p) { return move_to_gpu(p.placement.cache); }},
      {"10 % more of the hidden states on the gpu tier", [](Policy& p) { return move_to_gpu(p.placement.hidden); }},
      {"attention on the CPU where the cache lies (--cpu-cache-compute)",
       [](Policy& p) {
         const Share& cache = p.placement.cache;
         if (p.uses_host_attention() || cache.dram_percent <= 0 || cache.ssd() > 1e-9) return false;
         p.host_attention_percent = 100;
         return true;
       }},
      {"10 % more of the weights in host memory instead of on disk",
       [](Policy& p) { return move_to_dram(p.placement.weights); }},
      {"10 % more of the cache in host memory instead of on disk",
       [](Policy& p) { return move_to_dram(p.placement.cache); }},
  };
  return all;
}

// These change the results: an offer, never the first advice.
const std::vector<Change>& lossy_changes() {
  static const std::vector<Change> all{
      {"weights of 4 bits (--compress-weight)", [](Policy& p) { return compress(p.weight_format); }},
      {"a cache of 4 bits (--compress-cache)", [](Policy& p) { return compress(p.cache_format); }},
  };
  return all;
}

// The bound under a changed policy; none when it does not fit.
std::optional<double> bound_after(std::span<const StageInput> stages, const Change& change, RooflineJob job) {
  std::vector<StageInput> changed(stages.begin(), stages.end());
  for (StageInput& stage : changed) {
    Policy& policy = stage.plan.policy;
    if (!change.apply(policy)) return std::nullopt;
    if (policy.own_cut().is_cut()) policy.cache_cut = policy.own_cut();  // all ranks change alike
    if (!explain_misfit(plan_memory(stage.plan), stage.budgets).empty()) return std::nullopt;
  }
  return bound_run(changed, job).tokens_per_second;
}

std::string beyond_policy(Ceiling binding) {
  switch (binding) {
    case Ceiling::matrix: return "the arithmetic itself binds: more ranks or a faster device";
    case Ceiling::gpu_memory: return "a larger --gpu-batch-size with more GPU memory, or more ranks";
    case Ceiling::host_to_gpu:
    case Ceiling::gpu_to_host:
    case Ceiling::both_directions: return "more GPU memory (--gpu-mem) or more ranks, so that less crosses the link";
    case Ceiling::host_memory: return "a larger block with more host memory, or ranks on more machines";
    case Ceiling::disk: return "more host memory (--cpu-mem) or a faster disk for --offload-dir";
    case Ceiling::network: break;
  }
  return "a faster link between the ranks (--transport nccl where GPUs can reach each other)";
}

}  // namespace

std::string advise(std::span<const StageInput> stages, const RooflineJob& job, const RunBound& bound) {
  if (bound.unfilled)
    return fmt::format("more rows: a pipeline of {} stages is full with {} blocks of B x K rows", stages.size(),
                       stages.size());
  // As many rows as fill the blocks before and after: what counts is the rate of a long job.
  RooflineJob endless = job;
  endless.num_sequences = 4 * stages.front().plan.policy.block_rows() * static_cast<std::int64_t>(stages.size());
  const double now = bound_run(stages, endless).tokens_per_second;
  const auto best_of = [&](const std::vector<Change>& candidates) {
    double best = now * worth_a_word;
    std::string text;
    for (const Change& change : candidates) {
      const std::optional<double> after = bound_after(stages, change, endless);
      if (!after || *after <= best) continue;
      best = *after;
      text = fmt::format("{} (it fits; the bound of a long job becomes {:.4g} tokens/s instead of {:.4g})", change.text,
                         best, now);
    }
    return text;
  };
  std::string text = best_of(changes());
  if (text.empty()) text = beyond_policy(bound.binding);
  const std::string lossy = best_of(lossy_changes());
  return lossy.empty() ? text : text + "; at some cost in accuracy, " + lossy;
}

}  // namespace flexgen

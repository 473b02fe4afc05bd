// Everything a stage holds: homes, slots, workspace, taken from the budgets as planned. Built once, before weights are
// read; nothing is allocated afterwards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "engine/arena.hpp"
#include "engine/hidden_store.hpp"
#include "engine/kv_cache.hpp"
#include "engine/sweep_batches.hpp"
#include "engine/weight_store.hpp"
#include "model/layer.hpp"
#include "ops/context.hpp"
#include "policy/memory_plan.hpp"
#include "storage/tier_budget.hpp"

namespace flexgen {

/// A stage's plan: the slice's layers and what they need. Pure arithmetic on every rank.
struct StagePlan {
  PlanInput input;
  SliceBounds bounds;
  MemoryPlan memory;
};

/// Completes `input` for this slice: layers and the ops' scratch on `device`.
PlanInput plan_input(const ModelSpec& model, const SliceBounds& bounds, const Policy& policy, const JobShape& job,
                     std::int32_t num_groups, const Device& device);

class StageMemory {
 public:
  /// Throws UserError (does_not_fit) when a budget is too small; the plan should have been checked before.
  StageMemory(const StagePlan& plan, const Budgets& budgets, std::shared_ptr<WeightSource> source, const Device& device,
              const std::filesystem::path& offload_dir);

  TierBudget gpu_budget, dram_budget, ssd_budget;
  std::vector<BudgetShare> shares;
  Arena arena;
  WeightStore weights;
  KvCache cache;
  HiddenStore hidden;
  SweepBatches batches;
  Workspace workspace;
  std::vector<std::byte*> weight_slots;  // empty when all weights are resident
  std::vector<std::byte*> cache_slots;   // empty when the whole cache is on the gpu tier
  std::vector<std::byte*> hidden_slots;  // empty when hidden states are resident
  std::byte* plain_layer = nullptr;      // null: compressed matrices are made plain in pieces, call by call
  std::int32_t* next_tokens = nullptr;   // [num_micro_batches * max_outputs]
  float* scores = nullptr;               // the same; null where none are wanted
};

}  // namespace flexgen

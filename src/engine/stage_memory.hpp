// Everything a stage holds: homes, slots, workspace, taken by name as planned. Built once, before weights are read;
// nothing is allocated afterwards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "engine/hidden_store.hpp"
#include "engine/kv_cache.hpp"
#include "engine/sampler.hpp"
#include "engine/sweep_batches.hpp"
#include "engine/tier_memory.hpp"
#include "engine/weight_store.hpp"
#include "ops/context.hpp"
#include "policy/stage_plan.hpp"

namespace flexgen {

/// As OutputArrays.
struct OutputPieces {
  HostPiece tokens;
  HostPiece scores;
  HostPiece alternatives;  // tokens and scores

  OutputArrays arrays() const;
};

class StageMemory {
 public:
  /// Throws UserError (does_not_fit) when a budget is too small; the plan should have been checked before. `plan` must
  /// outlive this.
  StageMemory(const StagePlan& plan, const Budgets& budgets, std::shared_ptr<WeightSource> source, const Device& device,
              const std::filesystem::path& offload_dir);

  TierMemory tiers;  // first: what was taken goes back to it
  HostScratch host_scratch;
  WeightStore weights;
  KvCache cache;
  HiddenStore hidden;
  SweepBatches batches;
  Workspace workspace;
  std::vector<std::byte*> weight_slots;  // empty when all weights are resident
  std::vector<std::byte*> cache_slots;   // empty when the whole cache is on the gpu tier
  std::vector<std::byte*> hidden_slots;  // empty when hidden states are resident
  std::byte* plain_layer = nullptr;      // null: compressed matrices are made plain in pieces, call by call
  OutputArrays outputs;                  // of [num_micro_batches * max_outputs], on the device
  OutputPieces results;                  // where the last stage's arrive in host memory
};

}  // namespace flexgen

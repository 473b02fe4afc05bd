#include "engine/stage_memory.hpp"

#include <algorithm>

#include "base/bytes.hpp"
#include "ops/linear.hpp"

namespace flexgen {
namespace {

static_assert(sizeof(KvHead) == cache_table_entry_bytes);

std::vector<std::byte*> take_slots(Arena& arena, std::int32_t count, std::uint64_t bytes, const char* purpose) {
  std::vector<std::byte*> slots;
  if (bytes > 0)
    for (std::int32_t i = 0; i < count; ++i) slots.push_back(arena.take(bytes, purpose));
  return slots;
}

std::vector<BudgetShare> take_budgets(const MemoryPlan& plan, TierBudget& gpu, TierBudget& dram, TierBudget& ssd) {
  std::vector<BudgetShare> shares;
  for (auto [demand, budget] : {std::pair{&plan.gpu, &gpu}, std::pair{&plan.dram, &dram}, std::pair{&plan.ssd, &ssd}}) {
    for (const TensorClass c : {TensorClass::weights, TensorClass::cache, TensorClass::hidden})
      shares.emplace_back(*budget, demand->home[static_cast<std::size_t>(c)], tensor_class_name(c));
    shares.emplace_back(*budget, demand->staging, "staging");
    shares.emplace_back(*budget, demand->workspace, "workspace");
  }
  return shares;
}

}  // namespace

PlanInput plan_input(const ModelSpec& model, const SliceBounds& bounds, const Policy& policy, const JobShape& job,
                     std::int32_t num_groups, const Device& device) {
  PlanInput input;
  input.model = model;
  input.policy = policy;
  input.job = job;
  input.num_groups = num_groups;
  input.on_gpu = input.wants_plain_layer = device.is_cuda();  // on the host making plain is hidden in the product
  input.reads_dram = !device.is_cuda() || (policy.pin_weights && reads_pinned_memory(device));
  const std::shared_ptr<const Layers> layers =
      std::make_shared<Layers>(make_layers(model, bounds, policy.separate_layers));
  input.layers = describe(*layers);
  input.workspace_bytes = [layers, policy, device, longest = std::max(1, job.max_prompt_tokens)](std::int64_t rows,
                                                                                                 std::int64_t tokens) {
    const CallSizes largest{rows, std::min(tokens, std::max<std::int64_t>(chunk_tokens, longest)), longest};
    std::uint64_t most = 0;
    for (const auto& layer : *layers) most = std::max(most, layer->workspace_bytes(device, policy, largest));
    most += linear_workspace_bytes(device);
    return policy.weight_format.is_none() ? most : most + linear_compressed_workspace_bytes(device);
  };
  return input;
}

StageMemory::StageMemory(const StagePlan& plan, const Budgets& budgets, std::shared_ptr<WeightSource> source,
                         const Device& device, const std::filesystem::path& offload_dir)
    : gpu_budget(TierKind::gpu, budgets.gpu_bytes),
      dram_budget(TierKind::dram, budgets.dram_bytes),
      ssd_budget(TierKind::ssd, budgets.ssd_bytes),
      shares(take_budgets(plan.memory, gpu_budget, dram_budget, ssd_budget)),
      arena(plan.memory.gpu.total(), device),
      weights(plan.input.layers, plan.memory.weights, std::move(source),
              {device, plan.input.policy.dtype, plan.input.policy.pin_weights, offload_dir}, arena),
      cache(plan.memory.cache, device, offload_dir, arena),
      hidden(plan.input.policy.placement.hidden, plan.input.policy.num_micro_batches, plan.memory.hidden_bytes,
             row_bytes(plan.input.policy, plan.input.model), device, offload_dir, arena),
      batches(plan.input.policy.num_micro_batches, plan.input.policy.micro_batch_size, plan.memory.max_tokens,
              plan.input.job.scores, device, arena),
      workspace(arena.take(plan.memory.workspace_bytes, "workspace"), plan.memory.workspace_bytes),
      weight_slots(
          take_slots(arena, weight_slots_of(plan.input.policy), plan.memory.weights.slot_bytes, "weight slots")),
      cache_slots(take_slots(arena, num_cache_slots, plan.memory.cache.staged_bytes(), "cache slots")),
      hidden_slots(
          take_slots(arena, hidden.is_resident() ? 0 : num_hidden_slots, plan.memory.hidden_bytes, "hidden slots")) {
  const std::uint64_t outputs = static_cast<std::uint64_t>(plan.input.policy.num_micro_batches) *
                                static_cast<std::uint64_t>(max_outputs(plan.input.policy, plan.input.job));
  plain_layer = arena.take(plan.memory.plain_layer_bytes, "plain layer");
  next_tokens = reinterpret_cast<std::int32_t*>(arena.take(outputs * sizeof(std::int32_t), "sampled tokens"));
  if (plan.input.job.scores) scores = reinterpret_cast<float*>(arena.take(outputs * sizeof(float), "scores"));
}

}  // namespace flexgen

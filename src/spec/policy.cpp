#include "spec/policy.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {

std::string_view tensor_class_name(TensorClass tensor_class) {
  switch (tensor_class) {
    case TensorClass::weights: return "weights";
    case TensorClass::cache: return "cache";
    case TensorClass::hidden: return "hidden";
  }
  return "?";
}

const Share& Placement::of(TensorClass tensor_class) const {
  switch (tensor_class) {
    case TensorClass::weights: return weights;
    case TensorClass::cache: return cache;
    case TensorClass::hidden: break;
  }
  return hidden;
}

Placement make_placement(const std::array<double, 6>& percent) {
  for (std::size_t i = 0; i < 6; i += 2)
    if (!(percent[i] >= 0) || !(percent[i + 1] >= 0) || percent[i] + percent[i + 1] > 100 + 1e-9)
      throw UserError(
          ExitCode::usage,
          fmt::format("--percent cannot place {} percent on gpu and {} on dram", percent[i], percent[i + 1]),
          "each must be at least 0 and the two together at most 100",
          "Give six numbers: weights gpu, weights dram, cache gpu, cache dram, hidden gpu, hidden dram; the "
          "rest of each lies on ssd");
  return {{percent[0], percent[1]}, {percent[2], percent[3]}, {percent[4], percent[5]}};
}

CacheCut StagePolicy::own_cut() const {
  if (!uses_host_attention()) return {};
  const bool are_alike = host_attention_percent >= 100 && placement.cache.gpu_percent <= 0;
  return are_alike ? CacheCut{} : CacheCut{placement.cache.gpu_percent, host_attention_percent};
}

Policy JobPolicy::of_rank(std::size_t rank) const {
  Policy whole;
  static_cast<BlockShape&>(whole) = block;
  static_cast<StagePolicy&>(whole) = stages.at(rank);
  return whole;
}

std::string to_flags(const Policy& p) {
  const Placement& at = p.placement;
  std::string flags = fmt::format(
      "--percent {:g} {:g} {:g} {:g} {:g} {:g} --gpu-batch-size {} --num-gpu-batches {} --dtype {}",
      at.weights.gpu_percent, at.weights.dram_percent, at.cache.gpu_percent, at.cache.dram_percent,
      at.hidden.gpu_percent, at.hidden.dram_percent, p.micro_batch_size, p.num_micro_batches, dtype_name(p.dtype));
  if (p.token_budget > 0) flags += fmt::format(" --token-budget {}", p.token_budget);
  if (p.rule != BlockShape{}.rule) flags += " --static-blocks";  // the one way to ask for another
  if (!p.wants_sharing) flags += " --prefix-sharing false";
  if (!p.weight_format.is_none()) flags += fmt::format(" --compress-weight --weight-bits {}", p.weight_format.bits);
  if (!p.cache_format.is_none()) flags += fmt::format(" --compress-cache --cache-bits {}", p.cache_format.bits);
  const std::int32_t group = p.weight_format.is_none() ? p.cache_format.group : p.weight_format.group;
  if (group != QuantFormat{}.group) flags += fmt::format(" --compress-group {}", group);
  if (p.uses_host_attention()) flags += " --cpu-cache-compute";
  if (p.uses_host_attention() && p.host_attention_percent != 100)
    flags += fmt::format(" --cpu-attention-percent {:g}", p.host_attention_percent);
  if (p.attention_sparsity != 1) flags += fmt::format(" --attn-sparsity {:g}", p.attention_sparsity);
  if (!p.overlap) flags += " --overlap false";
  if (!p.separate_layers) flags += " --sep-layer false";
  else if (p.uses_host_attention()) flags += " --sep-layer true";  // where the flag's absence may mean false
  if (!p.pin_weights) flags += " --pin-weight false";
  return flags;
}

double JobShape::mean_shared_tokens(std::int32_t num_prefixes) const {
  if (num_prefixes == 0 || num_rows == 0) return 0;
  return static_cast<double>(shared_prompt_tokens) / static_cast<double>(num_rows);
}

void JobShape::add_rows(std::int32_t prompt, std::int32_t generated, std::int64_t count) {
  const std::int32_t positions = prompt + std::max(0, generated - 1);
  max_prompt_tokens = std::max(max_prompt_tokens, prompt);
  max_new_tokens = std::max(max_new_tokens, generated);
  max_row_tokens = std::max(max_row_tokens, positions);
  num_rows += count;
  prompt_tokens += count * prompt;
  new_tokens += count * generated;
  new_squares += static_cast<double>(count) * generated * generated;
  const double sweeps = static_cast<double>(count) * std::max(1, generated);
  flight_sweeps += sweeps;
  flight_positions += sweeps * positions;
  flight_squares += sweeps * positions * positions;
  const double steps = std::max(0, generated - 1);  // the first token is its prompt's
  decode_positions += static_cast<double>(count) * steps * (prompt + (steps - 1) / 2);
}

double JobShape::mean_decode_position() const {
  const auto steps = static_cast<double>(new_tokens - num_rows);
  return steps > 0 ? decode_positions / steps : 0;
}

}  // namespace flexgen

// The options of how a job is run, as rows of a table, and what they say only together.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "app/option_table.hpp"
#include "app/options.hpp"

namespace flexgen {

/// What says something only together with other options.
struct PendingPolicy {
  bool compress_weight = false, compress_cache = false;
  std::int32_t weight_bits = 4, cache_bits = 4, group = 64;
  std::optional<bool> cpu_cache_compute;
  double cpu_attention_percent = 100;
};

std::vector<OptionRow> policy_rows(PolicyRequest& policy, ModelChoice& model, PendingPolicy& pending);

/// Once all is read. Throw UserError (usage): what stands alone or contradicts itself.
void settle_compression(const GivenOptions& given, const PendingPolicy& pending, Options& o);
void settle_attention(const GivenOptions& given, const PendingPolicy& pending, PolicyRequest& policy);

}  // namespace flexgen

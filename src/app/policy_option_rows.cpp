#include "app/policy_option_rows.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <string>

#include "app/option_values.hpp"
#include "base/error.hpp"
#include "run/planning/placement_file.hpp"
#include "run/policy_choice.hpp"

namespace flexgen {
namespace {

[[noreturn]] void refuse_policy(const std::string& problem, const std::string& reason = "",
                                const std::string& hint = "") {
  throw UserError(ExitCode::usage, problem, reason, hint);
}

void keep_percent(const std::string& option, const std::string& words, PolicyRequest& policy) {
  const std::vector<double> given = number_list(option, words);
  std::array<double, 6> percent{};
  if (given.size() != percent.size())
    throw UserError(
        ExitCode::usage, fmt::format("--{} takes six numbers, not {}", option, given.size()), "",
        fmt::format("For example --{} 20 80 0 100 0 100, or a file with a placement for every rank", option));
  std::copy(given.begin(), given.end(), percent.begin());
  policy.placement = make_placement(percent);
}

// Six numbers, or the file of those of every rank.
OptionValue percent_into(PolicyRequest& policy) {
  return into::list([&policy](const std::string& option, const std::string& words) {
    if (words.find_first_not_of("0123456789+-.eE, \t") == std::string::npos || !std::filesystem::exists(words))
      return keep_percent(option, words, policy);
    const RankPlacements placements = read_placements(words);
    policy.stages = placements.stages;
    if (!policy.slices) policy.slices = placements.slices;
  });
}

OptionValue slices_into(std::optional<std::vector<std::int32_t>>& slices) {
  return into::list([&slices](const std::string& option, const std::string& words) {
    slices.emplace();
    for (const double number : number_list(option, words)) {
      if (number != std::floor(number) || number < 1 || number > 1e6)
        throw UserError(ExitCode::usage, fmt::format("--{} has {}", option, number), "layers are counted",
                        fmt::format("For example --{} 16,32", option));
      slices->push_back(static_cast<std::int32_t>(number));
    }
  });
}

OptionValue dtype_into(std::optional<DType>& to) {
  return into::word("", [&to](const std::string& option, const std::string& word) { to = data_type(option, word); });
}

OptionValue lossy_into(std::int32_t& fewest_bits) {
  return into::word("none", [&fewest_bits](const std::string& option, const std::string& word) {
    const std::string form = one_of(option, word, {"none", "8bit", "4bit"});
    fewest_bits = form == "8bit" ? 8 : form == "4bit" ? 4 : 0;
  });
}

QuantFormat compression(const GivenOptions& given, const char* switch_name, bool is_on, const char* bits_name,
                        const QuantFormat& format) {
  if (!is_on) {
    if (given.has(bits_name)) refuse_policy(fmt::format("--{} needs --{}", bits_name, switch_name));
    return {};
  }
  if (!format.has_known_bits())
    refuse_policy(fmt::format("--{} {} is not known", bits_name, format.bits), "", "Use 4 or 8");
  if (!format.has_known_group())
    refuse_policy(fmt::format("--compress-group {} is not known", format.group), "", "Use 32, 64 or 128");
  return format;
}

}  // namespace

std::vector<OptionRow> policy_rows(PolicyRequest& policy, ModelChoice& model, PendingPolicy& pending) {
  return {
      {"slices", "N,...", slices_into(policy.slices),
       "decoder layers of each rank, first to last; default: as planned, else balanced"},
      {"percent", "wg wc cg cc hg hc", percent_into(policy),
       "six numbers: weights on gpu and dram, cache on gpu and dram, hidden states on gpu and dram; the rest lies "
       "on ssd. Or a file with those of every rank (plan --save)"},
      {"gpu-batch-size", "N", into::positive(policy.gpu_batch_size), "rows computed in one call (B)"},
      {"num-gpu-batches", "N", into::positive(policy.num_gpu_batches),
       "micro-batches that share one pass over the weights (K)"},
      {"token-budget", "N", into::positive(policy.token_budget),
       "tokens that a micro-batch brings in a sweep at most, at least B; default: what keeps the block full"},
      {"prefix-sharing", "BOOL", into::on_off(policy.prefix_sharing),
       "rows whose prompts begin alike hold that once; the tokens are the same [true where it can be done]"},
      {"dtype", "TYPE", dtype_into(policy.dtype),
       "float32 | float16 | bfloat16; default on a CPU bfloat16 where it multiplies that, else float32; on a GPU "
       "the model's own"},
      {"overlap", "BOOL", into::on_off(policy.overlap), "load and store behind the computation [true]"},
      {"sep-layer", "BOOL", into::on_off(policy.sep_layer),
       "attention and mlp are two layers of a sweep [true; with --cpu-cache-compute false if it fits]"},
      {"pin-weight", "BOOL", into::on_off(policy.pin_weight), "pin the host memory of weights [true]"},
      {"compress-weight", "BOOL", into::on_off(pending.compress_weight), "keep weights in groups of 4-bit codes"},
      {"compress-cache", "BOOL", into::on_off(pending.compress_cache), "keep keys and values so, too"},
      {"weight-bits", "N", into::positive(pending.weight_bits), "4 | 8 bits of a compressed weight"},
      {"cache-bits", "N", into::positive(pending.cache_bits), "4 | 8 bits of a compressed key or value"},
      {"compress-group", "N", into::positive(pending.group), "32 | 64 | 128 elements that share a scale and a minimum"},
      {"save-compressed", "DIR", into::text(model.save_compressed),
       "with --compress-weight: write the compressed model to this new folder and start from it"},
      {"cpu-cache-compute", "BOOL", into::on_off(pending.cpu_cache_compute),
       "decode attention on the CPU for rows whose cache lies in dram"},
      {"cpu-attention-percent", "P", into::number_to(100, pending.cpu_attention_percent),
       "with --cpu-cache-compute: of these rows, how many; the others' cache goes to the GPU"},
      {"lossy", "none|8bit|4bit", lossy_into(policy.fewest_bits),
       "how far the plan may compress weights and cache where that pays"},
      {"attn-sparsity", "X", into::number_to(1, policy.attn_sparsity),
       "decode attention uses the values of this share of the keys, those of most weight"},
  };
}

void settle_compression(const GivenOptions& given, const PendingPolicy& pending, Options& o) {
  PolicyRequest& policy = o.policy;
  policy.weight_format = compression(given, "compress-weight", pending.compress_weight, "weight-bits",
                                     {pending.weight_bits, pending.group});
  policy.cache_format =
      compression(given, "compress-cache", pending.compress_cache, "cache-bits", {pending.cache_bits, pending.group});
  const bool is_none = policy.weight_format.is_none() && policy.cache_format.is_none();
  if (given.has("compress-group") && is_none)
    refuse_policy("--compress-group needs --compress-weight or --compress-cache");
  if (!o.model.save_compressed.empty()) {
    if (o.model.dummy)
      refuse_policy("--save-compressed and --dummy exclude each other", "there are no weights to keep");
    if (policy.weight_format.is_none())
      refuse_policy("--save-compressed has nothing to compress", "--compress-weight is missing");
  }
  if (!o.rows.quality_check.empty() && is_none)
    refuse_policy("--quality-check needs --compress-weight or --compress-cache",
                  "without compression there is nothing to compare");
}

void settle_attention(const GivenOptions& given, const PendingPolicy& pending, PolicyRequest& policy) {
  const bool is_on = pending.cpu_cache_compute.value_or(false);
  if (pending.cpu_cache_compute) policy.cpu_attention_percent = is_on ? pending.cpu_attention_percent : 0;
  if (!is_on && given.has("cpu-attention-percent")) refuse_policy("--cpu-attention-percent needs --cpu-cache-compute");
  if (is_on && policy.placement) require_cache_off_ssd(*policy.placement);
}

}  // namespace flexgen

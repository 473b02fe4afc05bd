#include "batch/token_chooser.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace flexgen {
namespace {

bool looks_at_prompt(const SamplingOptions& sampling) { return sampling.repetition_penalty != 1.0F; }

bool looks_at_output(const SamplingOptions& sampling) {
  return looks_at_prompt(sampling) || sampling.presence_penalty != 0.0F || sampling.frequency_penalty != 0.0F;
}

// Tokens whose logits the rules can change in a sequence of so many tokens, at most.
std::int64_t most_adjustments(const TokenRules& rules, std::int64_t prompt_tokens, std::int64_t new_tokens) {
  const SamplingOptions& sampling = rules.sampling;
  std::int64_t most = std::ssize(sampling.logit_bias);
  if (sampling.min_tokens > 0) most += std::ssize(rules.end_tokens);
  if (looks_at_prompt(sampling)) most += prompt_tokens;
  if (looks_at_output(sampling)) most += new_tokens;
  return most;
}

}  // namespace

void count_rules(const TokenRules& rules, std::int64_t prompt_tokens, std::int64_t new_tokens, SamplingShape& shape) {
  shape.is_wanted = true;
  shape.max_top = std::max({shape.max_top, rules.sampling.num_logprobs, rules.num_prompt_top});
  const std::int64_t adjustments = most_adjustments(rules, prompt_tokens, new_tokens);
  shape.max_adjustments = std::max(shape.max_adjustments, static_cast<std::int32_t>(adjustments));
}

TokenChooser::TokenChooser(std::shared_ptr<const TokenRules> rules, std::span<const std::int32_t> prompt,
                           std::uint32_t answer)
    : rules_(std::move(rules)), answer_(answer) {
  const SamplingOptions& sampling = rules_->sampling;
  for (const TokenBias& one : sampling.logit_bias) adjustment_of(one.token).bias = one.bias;
  if (looks_at_prompt(sampling))
    for (const std::int32_t token : prompt) ++adjustment_of(token).in_prompt;
  if (sampling.min_tokens > 0)
    for (const std::int32_t token : rules_->end_tokens)
      adjustment_of(token).bias = -std::numeric_limits<float>::infinity();
}

RowChoice TokenChooser::next(std::int32_t row) const {
  const SamplingOptions& sampling = rules_->sampling;
  RowChoice choice;
  choice.row = row;
  choice.num_prompt_top = rules_->num_prompt_top;
  choice.wants_score = wants_scores();
  SampleRow& how = choice.how;
  how.temperature = sampling.temperature;
  how.top_p = sampling.top_p;
  how.min_p = sampling.min_p;
  how.repetition_penalty = sampling.repetition_penalty;
  how.presence_penalty = sampling.presence_penalty;
  how.frequency_penalty = sampling.frequency_penalty;
  how.top_k = sampling.top_k;
  how.num_top = wants_scores() ? sampling.num_logprobs : 0;
  how.seed = sampling.seed;
  how.draw = static_cast<std::uint64_t>(answer_) << 32 | static_cast<std::uint32_t>(num_made_);
  choice.adjustments = adjustments_;
  return choice;
}

void TokenChooser::take(std::int32_t token) {
  const SamplingOptions& sampling = rules_->sampling;
  if (looks_at_output(sampling)) ++adjustment_of(token).in_output;
  if (++num_made_ != sampling.min_tokens) return;
  for (const std::int32_t end : rules_->end_tokens) adjustment_of(end).bias = 0.0F;  // no longer banned
  for (const TokenBias& one : sampling.logit_bias) adjustment_of(one.token).bias = one.bias;
}

TokenAdjustment& TokenChooser::adjustment_of(std::int32_t token) {
  const auto [at, is_new] = index_of_token_.try_emplace(token, adjustments_.size());
  if (is_new) adjustments_.push_back({.token = token});
  return adjustments_[at->second];
}

}  // namespace flexgen

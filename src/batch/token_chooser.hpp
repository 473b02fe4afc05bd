// How the next token of one sequence is to be chosen: what its rules come to after the tokens that it has.
//
// Sequences whose rules change logits have their counts of tokens here, on rank 0, and send them with every sweep: what
// chooses stays without state, so that rows may take each other's places, share the beginning of a prompt and be begun
// again. That costs 20 bytes for each distinct token of such a sequence, and nothing where no rule looks back.
//
// Owned by its sequence. Single-threaded.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "batch/row.hpp"
#include "schedule/work_list.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Counts a sequence of so many tokens in what its job needs.
void count_rules(const TokenRules& rules, std::int64_t prompt_tokens, std::int64_t new_tokens, SamplingShape& shape);

class TokenChooser {
 public:
  /// @param answer  RowRequest::answer
  TokenChooser(std::shared_ptr<const TokenRules> rules, std::span<const std::int32_t> prompt, std::uint32_t answer);

  /// Log-probabilities of its new tokens are wanted.
  bool wants_scores() const { return rules_->sampling.num_logprobs >= 0; }
  /// Of the token that comes next.
  /// @param row  RowChoice::row
  RowChoice next(std::int32_t row) const;
  /// The token that was chosen.
  void take(std::int32_t token);

 private:
  TokenAdjustment& adjustment_of(std::int32_t token);

  std::shared_ptr<const TokenRules> rules_;
  std::uint32_t answer_;
  std::int32_t num_made_ = 0;
  std::vector<TokenAdjustment> adjustments_;                      // each of another token
  std::unordered_map<std::int32_t, std::size_t> index_of_token_;  // in adjustments_
};

}  // namespace flexgen

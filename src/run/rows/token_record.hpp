// The log-probabilities of tokens of one sequence, in their order, with the likeliest tokens in the places of each.
//
// A value; plain arrays, as a job may hold them for many rows until these are finished.
#pragma once

#include <cstdint>
#include <vector>

#include "batch/row.hpp"
#include "job/result.hpp"
#include "text/tokenizer.hpp"

namespace flexgen {

class TokenRecord {
 public:
  /// @param num_top  alternatives to keep of each token
  explicit TokenRecord(std::int32_t num_top = 0) : num_top_(num_top) {}

  /// Appends; `tokens` has as many alternatives or more.
  void add(const TokenScores& tokens);
  void clear();
  std::int64_t size() const { return std::ssize(scores_); }
  float score(std::int64_t i) const { return scores_[static_cast<std::size_t>(i)]; }
  /// Sum from `first` on.
  double sum(std::int64_t first = 0) const;
  /// The i-th, which was `token`, with so many alternatives as were kept at most.
  ChoiceToken entry(std::int64_t i, std::int32_t token, std::int32_t num_top, const Tokenizer& tokenizer) const;

 private:
  std::int32_t num_top_;
  std::vector<float> scores_;
  std::vector<std::int32_t> top_tokens_;  // [tokens, num_top]; -1: no more
  std::vector<float> top_scores_;
};

}  // namespace flexgen

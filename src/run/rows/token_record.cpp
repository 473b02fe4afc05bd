#include "run/rows/token_record.hpp"

#include <algorithm>
#include <numeric>

#include "base/error.hpp"

namespace flexgen {

void TokenRecord::add(const TokenScores& tokens) {
  FLEXGEN_CHECK(tokens.max_top >= num_top_, "a token comes with fewer alternatives than were asked for");
  scores_.insert(scores_.end(), tokens.scores.begin(), tokens.scores.end());
  if (num_top_ == 0) return;
  const auto kept = static_cast<std::size_t>(num_top_), stride = static_cast<std::size_t>(tokens.max_top);
  for (std::size_t i = 0; i < tokens.scores.size(); ++i) {
    const auto ids = tokens.top_tokens.subspan(i * stride, kept);
    const auto scores = tokens.top_scores.subspan(i * stride, kept);
    top_tokens_.insert(top_tokens_.end(), ids.begin(), ids.end());
    top_scores_.insert(top_scores_.end(), scores.begin(), scores.end());
  }
}

void TokenRecord::clear() {
  scores_.clear();
  top_tokens_.clear();
  top_scores_.clear();
}

double TokenRecord::sum(std::int64_t first) const {
  return std::accumulate(scores_.begin() + first, scores_.end(), 0.0);
}

ChoiceToken TokenRecord::entry(std::int64_t i, std::int32_t token, std::int32_t num_top,
                               const Tokenizer& tokenizer) const {
  ChoiceToken entry{tokenizer.token_bytes(token), score(i), {}};
  for (std::int32_t t = 0; t < std::min(num_top, num_top_); ++t) {
    const auto at = static_cast<std::size_t>(i * num_top_ + t);
    if (top_tokens_[at] < 0) break;
    entry.top.push_back({tokenizer.token_bytes(top_tokens_[at]), top_scores_[at]});
  }
  return entry;
}

}  // namespace flexgen

// How a row is fitted into the positions of a model: what is generated, and what is cut off its prompt.
//
// Pure functions. A row of p prompt tokens and n new ones takes p + n - 1 positions: the last token is not read again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flexgen {

/// What is cut off a prompt that is too long.
enum class PromptCut : std::uint8_t { none, left, right };

/// "left" | "right" | "error"; throws UserError (usage).
PromptCut parse_prompt_cut(const std::string& word);
/// The word that parse_prompt_cut takes for it.
const char* prompt_cut_name(PromptCut cut);

struct PromptFit {
  std::int32_t max_positions = 0;  // of the model
  PromptCut cut = PromptCut::none;

  /// Cuts `ids` where that is asked for and needed. Returns how many tokens the row may generate: `max_tokens`, or,
  /// where that is no more than a wish, what fits.
  /// @param num_begin_tokens  how many the tokenizer put first: a cut on the left leaves them
  /// Throws UserError (rows_failed) when the row does not fit.
  std::int32_t apply(std::vector<std::int32_t>& ids, std::int32_t max_tokens, bool is_wish,
                     std::int64_t num_begin_tokens) const;
};

}  // namespace flexgen

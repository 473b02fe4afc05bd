#include "run/rows/prompt_fit.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {
namespace {

[[noreturn]] void refuse(const std::string& reason, const std::string& suggestion) {
  throw UserError(ExitCode::rows_failed, "the row is too long for the model", reason, suggestion);
}

void cut_prompt(std::vector<std::int32_t>& ids, std::size_t room, PromptCut cut, std::int64_t num_begin_tokens) {
  if (cut == PromptCut::left) {
    const std::ptrdiff_t kept = std::min(num_begin_tokens, static_cast<std::int64_t>(room));
    ids.erase(ids.begin() + kept, ids.end() - static_cast<std::ptrdiff_t>(room) + kept);
  } else {
    ids.resize(room);
  }
}

}  // namespace

PromptCut parse_prompt_cut(const std::string& word) {
  if (word == "left") return PromptCut::left;
  if (word == "right") return PromptCut::right;
  if (word == "error") return PromptCut::none;
  throw UserError(ExitCode::usage, fmt::format("--truncate-prompt {} is not known", word), "",
                  "Use one of: left, right, error");
}

const char* prompt_cut_name(PromptCut cut) {
  return cut == PromptCut::none ? "error" : cut == PromptCut::left ? "left" : "right";
}

std::int32_t PromptFit::apply(std::vector<std::int32_t>& ids, std::int32_t max_tokens, bool is_wish,
                              std::int64_t num_begin_tokens) const {
  const auto num_positions = static_cast<std::int64_t>(max_positions);
  if (!is_wish && max_tokens > num_positions)
    refuse(fmt::format("max_tokens {} needs {} positions behind one prompt token, the model has {}", max_tokens,
                       max_tokens, max_positions),
           "Lower max_tokens");
  const auto wanted = static_cast<std::int32_t>(std::min<std::int64_t>(max_tokens, num_positions));
  const std::int64_t room = num_positions + 1 - wanted;  // for the prompt
  const auto length = static_cast<std::int64_t>(ids.size());
  if (length <= room) return wanted;
  if (cut != PromptCut::none) {
    cut_prompt(ids, static_cast<std::size_t>(room), cut, num_begin_tokens);
    return wanted;
  }
  if (length > num_positions)
    refuse(fmt::format("the prompt has {} tokens, the model {} positions", length, max_positions),
           "Shorten the prompt, or have it cut with --truncate-prompt");
  if (!is_wish)
    refuse(fmt::format("{} prompt tokens and max_tokens {} need {} positions, the model has {}", length, max_tokens,
                       length + max_tokens - 1, max_positions),
           "Shorten the prompt, lower max_tokens, or have the prompt cut with --truncate-prompt");
  return static_cast<std::int32_t>(num_positions + 1 - length);
}

}  // namespace flexgen

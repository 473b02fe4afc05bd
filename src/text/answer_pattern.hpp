// A pattern that answers are to match: a regular expression of PCRE2, found anywhere in the text.
//
// Immutable; thread-safe. A search is bounded in steps and memory: a pattern that goes astray on a text counts as one
// that does not match it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace flexgen {

class AnswerPattern {
 public:
  /// Throws UserError (usage) for what is no regular expression.
  /// @param option  by which it was given, for messages
  AnswerPattern(const std::string& pattern, std::string_view option);
  AnswerPattern(AnswerPattern&&) noexcept;
  ~AnswerPattern();

  enum class Outcome { matched, not_matched, gone_astray };
  /// @param text  UTF-8; what is ill-formed matches nothing
  Outcome search(std::string_view text) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace flexgen

#include "text/answer_pattern.hpp"

#include <fmt/core.h>

#include <array>

#include "base/error.hpp"
#include "text/pcre2_memory.hpp"

namespace flexgen {
namespace {

constexpr std::uint32_t most_steps = 1'000'000;       // some 10 ms
constexpr std::uint32_t most_heap_kibibytes = 16384;  // for places to go back to

struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct AnswerPattern::Compiled {
  CompiledPattern code;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> limits;
};

AnswerPattern::AnswerPattern(const std::string& pattern, std::string_view option)
    : compiled_(std::make_unique<Compiled>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  constexpr std::uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF;
  compiled_->code.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &offset, nullptr));
  if (!compiled_->code)
    throw UserError(ExitCode::usage, fmt::format("{} '{}' is no regular expression", option, pattern),
                    fmt::format("{}, at byte {}", message_of(error), offset), "Correct it (Perl's syntax)");
  compiled_->limits.reset(pcre2_match_context_create(nullptr));
  FLEXGEN_CHECK(compiled_->limits, "PCRE2 has no memory for its limits");
  pcre2_set_match_limit(compiled_->limits.get(), most_steps);
  pcre2_set_heap_limit(compiled_->limits.get(), most_heap_kibibytes);
}

AnswerPattern::AnswerPattern(AnswerPattern&&) noexcept = default;
AnswerPattern::~AnswerPattern() = default;

AnswerPattern::Outcome AnswerPattern::search(std::string_view text) const {
  const MatchData match(pcre2_match_data_create(1, nullptr));
  const int rc = pcre2_match(compiled_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                             match.get(), compiled_->limits.get());
  if (rc >= 0) return Outcome::matched;
  return rc == PCRE2_ERROR_NOMATCH ? Outcome::not_matched : Outcome::gone_astray;
}

}  // namespace flexgen

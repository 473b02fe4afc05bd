#include "text/word_splitter.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/error.hpp"
#include "text/pcre2_memory.hpp"
#include "text/unicode_classes.hpp"
#include "text/utf8.hpp"

namespace flexgen {
namespace {

struct Stretch {
  std::size_t begin = 0;
  std::size_t end = 0;
};

bool is_number(char32_t code_point) {
  return std::ranges::any_of(number_ranges(), [&](const CodePointRange& range) {
    return code_point >= range.first && code_point <= range.last;
  });
}

CompiledPattern compile(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  CompiledPattern code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF, &error, &offset, nullptr));
  if (!code)
    throw UserError(ExitCode::model, fmt::format("cannot use the pattern '{}' of tokenizer.json", pattern),
                    fmt::format("it is malformed at byte {}", offset),
                    "Fetch the file again from where the model came from");
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without JIT it is interpreted: slower, same matches
  return code;
}

// The members of a class of characters, from behind its '['; leaves `at` on the ']'.
bool is_portable_class(std::string_view pattern, std::size_t& at) {
  for (bool first = true; ++at < pattern.size(); first = false) {
    if (pattern[at] == ']') return !first;
    if (pattern[at] == '[' || pattern.substr(at).starts_with("&&")) return false;  // nested, intersected
    if (pattern[at] == '\\' && (++at >= pattern.size() || !std::ispunct(static_cast<unsigned char>(pattern[at]))))
      return false;
  }
  return false;
}

}  // namespace

bool is_portable_pattern(std::string_view pattern) {
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '[' && !is_portable_class(pattern, at)) return false;
    if (c == '.' || c == '^' || c == '$' || pattern.substr(at).starts_with("(?") ||
        pattern.substr(at).starts_with("(*") || pattern.substr(at).starts_with("{,"))
      return false;
    if (c != '\\') continue;
    if (++at >= pattern.size()) return false;
    const auto escaped = static_cast<unsigned char>(pattern[at]);
    if (!std::ispunct(escaped) && (escaped < '1' || escaped > '9')) return false;
  }
  return !pattern.empty();
}

class WordSplitter::Rule {
 public:
  explicit Rule(const SplitRule& rule) : rule_(rule) {
    if (rule.kind == SplitRule::Kind::pattern) code_ = compile(rule.match);
  }

  void cut(std::string_view piece, std::vector<std::string_view>& parts) const {
    std::size_t done = 0;
    for (Stretch match = next(piece, 0); match.end > match.begin; match = next(piece, done)) {
      if (match.begin > done) parts.push_back(piece.substr(done, match.begin - done));
      if (!rule_.is_removed) parts.push_back(piece.substr(match.begin, match.end - match.begin));
      done = match.end;
    }
    if (done < piece.size()) parts.push_back(piece.substr(done));
  }

 private:
  // The first match at or after `from`; empty when there is none.
  Stretch next(std::string_view piece, std::size_t from) const {
    switch (rule_.kind) {
      case SplitRule::Kind::text: {
        const std::size_t at = piece.find(rule_.match, from);
        return at == std::string_view::npos ? Stretch{} : Stretch{at, at + rule_.match.size()};
      }
      case SplitRule::Kind::pattern: return next_of_pattern(piece, from);
      case SplitRule::Kind::each_digit: return next_digits(piece, from, false);
      case SplitRule::Kind::digits: return next_digits(piece, from, true);
    }
    return {};
  }

  Stretch next_of_pattern(std::string_view piece, std::size_t from) const {
    if (from >= piece.size()) return {};
    const MatchData data(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    FLEXGEN_CHECK(data != nullptr, "out of memory for PCRE2 match data");
    const int rc = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), from,
                               PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data.get(), nullptr);
    if (rc == PCRE2_ERROR_NOMATCH) return {};
    FLEXGEN_CHECK(rc > 0, fmt::format("pattern '{}' fails with {}", rule_.match, rc));
    const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data.get());
    return {found[0], found[1]};
  }

  static Stretch next_digits(std::string_view piece, std::size_t from, bool takes_runs) {
    Stretch match;
    for (std::string_view rest = piece.substr(from); !rest.empty();) {
      const std::size_t begin = piece.size() - rest.size();
      const bool is_digit = is_number(take_code_point(rest));
      if (!is_digit && match.end > 0) break;
      if (!is_digit) continue;
      if (match.end == 0) match.begin = begin;
      match.end = piece.size() - rest.size();
      if (!takes_runs) break;
    }
    return match;
  }

  SplitRule rule_;
  CompiledPattern code_;
};

WordSplitter::WordSplitter(WordRules rules) : rules_(std::move(rules)) {
  for (const SplitRule& rule : rules_.splits) compiled_.push_back(std::make_unique<const Rule>(rule));
}
WordSplitter::WordSplitter(WordSplitter&&) noexcept = default;
WordSplitter& WordSplitter::operator=(WordSplitter&&) noexcept = default;
WordSplitter::~WordSplitter() = default;

void WordSplitter::for_each_word(std::string_view text, const std::function<void(std::string_view)>& on_word) const {
  std::vector<std::string_view> pieces{text};
  for (const auto& rule : compiled_) {
    std::vector<std::string_view> parts;
    for (const std::string_view piece : pieces) rule->cut(piece, parts);
    pieces = std::move(parts);
  }
  const auto cut = [&](std::string_view piece) {
    if (rules_.use_pattern) pre_tokenizer_.for_each_word(piece, on_word);
    else on_word(piece);
  };
  for (const std::string_view piece : pieces) {
    if (piece.empty()) continue;
    if (rules_.add_prefix_space && !piece.starts_with(' ')) cut(' ' + std::string(piece));
    else cut(piece);
  }
}

}  // namespace flexgen

#include "text/pre_tokenizer.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "base/error.hpp"
#include "text/pcre2_memory.hpp"
#include "text/unicode_classes.hpp"
#include "text/utf8.hpp"

namespace flexgen {
namespace {

// The ranges in the syntax of a bracketed class, without the brackets.
std::string class_body(std::span<const CodePointRange> ranges) {
  std::string body;
  for (const CodePointRange& range : ranges) {
    body += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<std::uint32_t>(range.first),
                        static_cast<std::uint32_t>(range.last));
  }
  return body;
}

// Quantifiers are possessive, so that a word of any length needs no backtracking memory. That is right for the
// letters, numbers and others, which nothing follows; the look-ahead of \s+(?!\S) is done by the caller.
std::string pattern() {
  const std::string letters = class_body(letter_ranges());
  const std::string numbers = class_body(number_ranges());
  const std::string spaces = class_body(whitespace_ranges());
  return fmt::format("'s|'t|'re|'ve|'m|'ll|'d| ?[{0}]++| ?[{1}]++| ?[^{2}{0}{1}]++|[{2}]++", letters, numbers, spaces);
}

std::string pcre2_text(int error) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

// Where a run of white space [begin, end) ends as a word: before its last character when a word follows, because
// that character may belong to it (\s+(?!\S)); a run of one character stays whole (\s+).
std::size_t end_of_whitespace(std::string_view text, std::size_t begin, std::size_t end) {
  if (end == text.size()) return end;
  std::size_t last = end - 1;
  while ((static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
  return last > begin ? last : end;
}

char32_t code_point_at(std::string_view text, std::size_t at) {
  text.remove_prefix(at);
  return take_code_point(text);
}

}  // namespace

bool is_whitespace(char32_t code_point) {
  return std::ranges::any_of(whitespace_ranges(), [&](const CodePointRange& range) {
    return code_point >= range.first && code_point <= range.last;
  });
}

void PreTokenizer::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

PreTokenizer::PreTokenizer(bool use_jit) {
  const std::string text = pattern();
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_UTF | PCRE2_ANCHORED, &error,
                            &offset, nullptr));
  FLEXGEN_CHECK(code_ != nullptr, fmt::format("PCRE2 refuses the word pattern: {}", pcre2_text(error)));
  // Without JIT pcre2_match interprets the pattern: slower, same words.
  uses_jit_ = use_jit && pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

void PreTokenizer::for_each_word(std::string_view text, const std::function<void(std::string_view)>& on_word) const {
  if (text.empty()) return;
  const MatchData match(pcre2_match_data_create(1, nullptr));
  FLEXGEN_CHECK(match != nullptr, "out of memory for PCRE2 match data");
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (std::size_t begin = 0; begin < text.size();) {
    const int rc = pcre2_match(code_.get(), subject, text.size(), begin, PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    FLEXGEN_CHECK(rc > 0, fmt::format("word pattern fails at byte {}: {}", begin, pcre2_text(rc)));
    std::size_t end = pcre2_get_ovector_pointer(match.get())[1];
    // A match is either a run of white space or ends in something else.
    if (is_whitespace(code_point_at(text, begin)) && end - begin > 1) {
      const bool run = text[begin] != ' ' || is_whitespace(code_point_at(text, begin + 1));
      if (run) end = end_of_whitespace(text, begin, end);
    }
    on_word(text.substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace flexgen

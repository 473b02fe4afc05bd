#include "job/json_text.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace flexgen {
namespace {

constexpr std::string_view json_blanks = " \t\r\n";

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '-' || c == '.' || c == '_';
}

class Outliner {
 public:
  explicit Outliner(std::string_view text) : text_(text) {}

  JsonOutline run() {
    while (!has_ended_) step();
    outline_.end_at = at_;
    return std::move(outline_);
  }

 private:
  enum class Expect { value, value_or_close, key_or_close, colon, comma_or_close };
  using End = JsonOutline::End;

  void end(End how) {
    outline_.end = how;
    has_ended_ = true;
  }

  bool at_member() const { return open_.size() == 1 && open_.back() == '{'; }

  void step() {
    at_ = std::min(text_.find_first_not_of(json_blanks, at_), text_.size());
    if (at_ == text_.size()) {
      if (at_member() && expect_ == Expect::comma_or_close) end_member();
      return end(End::cut);
    }
    switch (expect_) {
      case Expect::value: return take_value(false);
      case Expect::value_or_close: return take_value(true);
      case Expect::key_or_close: return take_key();
      case Expect::colon: return take_colon();
      case Expect::comma_or_close: return take_comma();
    }
  }

  void take_value(bool or_close) {
    const char c = text_[at_];
    if (at_member()) outline_.members.back().value = text_.substr(at_);
    if (c == '{' || c == '[') {
      open_.push_back(c);
      ++at_;
      expect_ = c == '{' ? Expect::key_or_close : Expect::value_or_close;
    } else if (c == '"') {
      if (skip_string()) after_value();
    } else if (c == ']' && or_close) {
      close(c);
    } else if (is_word_character(c)) {
      while (at_ < text_.size() && is_word_character(text_[at_])) ++at_;
      after_value();
    } else {
      end(End::broken);
    }
  }

  void take_key() {
    if (text_[at_] == '}') return close('}');
    if (text_[at_] != '"') return end(End::broken);
    const std::size_t begin = at_;
    if (!skip_string()) return;
    if (at_member()) outline_.members.push_back({text_.substr(begin, at_ - begin), {}, false});
    expect_ = Expect::colon;
  }

  void take_colon() {
    if (text_[at_] != ':') return end(End::broken);
    ++at_;
    expect_ = Expect::value;
  }

  void take_comma() {
    const char c = text_[at_];
    if (c != ',') return close(c);
    if (at_member()) end_member();
    ++at_;
    expect_ = open_.back() == '{' ? Expect::key_or_close : Expect::value_or_close;
  }

  void close(char bracket) {
    if (bracket != (open_.back() == '{' ? '}' : ']')) return end(End::broken);
    if (at_member() && expect_ == Expect::comma_or_close) end_member();
    open_.pop_back();
    ++at_;
    after_value();
  }

  void after_value() {
    if (open_.empty()) return end(End::complete);
    if (at_member()) value_end_ = at_;
    expect_ = Expect::comma_or_close;
  }

  void end_member() {
    JsonOutline::Member& member = outline_.members.back();
    member.value = member.value.substr(0, value_end_ - static_cast<std::size_t>(member.value.data() - text_.data()));
    member.is_whole = true;
  }

  /// From its opening quote to behind its closing one. False where there is none: the outline has then ended.
  bool skip_string() {
    for (++at_;; ++at_) {
      at_ = std::min(text_.find_first_of("\"\\\n", at_), text_.size());
      if (at_ < text_.size() && text_[at_] == '\\') ++at_;
      else if (at_ < text_.size() && text_[at_] == '"') break;
      else if (at_ < text_.size()) return end(End::broken), false;
      if (at_ >= text_.size()) {
        at_ = text_.size();
        return end(End::cut), false;
      }
    }
    ++at_;
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string open_;  // brackets
  Expect expect_ = Expect::value;
  std::size_t value_end_ = 0;  // of the member that is being read
  bool has_ended_ = false;
  JsonOutline outline_;
};

/// The code unit of the escape \uXXXX at `at`; nothing where there is no such escape.
std::optional<unsigned> code_unit(std::string_view text, std::size_t at) {
  const std::string_view escape = text.substr(std::min(at, text.size()), 6);
  unsigned unit = 0;
  if (escape.size() < 6 || !escape.starts_with("\\u")) return std::nullopt;
  const auto [end, error] = std::from_chars(escape.data() + 2, escape.data() + 6, unit, 16);
  if (error != std::errc() || end != escape.data() + 6) return std::nullopt;
  return unit;
}

bool is_high_surrogate(unsigned unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low_surrogate(unsigned unit) { return unit >= 0xDC00 && unit < 0xE000; }

}  // namespace

JsonOutline outline_json(std::string_view text) { return Outliner(text).run(); }

std::optional<std::string> replace_lone_surrogates(std::string_view text) {
  std::optional<std::string> repaired;
  std::size_t at = 0;
  while ((at = text.find('\\', at)) != std::string_view::npos) {
    const std::optional<unsigned> unit = code_unit(text, at);
    if (!unit) {
      at += 2;  // the character behind a backslash may be one, too
      continue;
    }
    const bool is_pair = is_high_surrogate(*unit) && is_low_surrogate(code_unit(text, at + 6).value_or(0));
    if (!is_pair && (is_high_surrogate(*unit) || is_low_surrogate(*unit))) {
      if (!repaired) repaired.emplace(text);
      repaired->replace(at + 2, 4, "fffd");
    }
    at += is_pair ? 12 : 6;
  }
  return repaired;
}

}  // namespace flexgen

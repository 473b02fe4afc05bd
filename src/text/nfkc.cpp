#include "text/nfkc.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <unordered_map>

#include "text/utf8.hpp"

namespace flexgen {
namespace {

// Hangul syllables are arithmetic: a leading consonant, a vowel, perhaps a trailing consonant.
constexpr char32_t syllables = 0xAC00, leads = 0x1100, vowels = 0x1161, trails = 0x11A7;
constexpr char32_t num_leads = 19, num_vowels = 21, num_trails = 28;
constexpr char32_t num_syllables = num_leads * num_vowels * num_trails;

char32_t take_number(std::string_view& text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

class Tables {
 public:
  Tables() {
    read_decompositions(unicode::decompositions());
    read_classes(unicode::combining_classes());
    for (std::string_view text = unicode::composed_pairs(); take(text, ';');) {
      const char32_t first = take_number(text);
      take(text, ' ');
      const char32_t second = take_number(text);
      take(text, ' ');
      pairs_[key(first, second)] = take_number(text);
    }
  }

  void decompose(char32_t c, std::u32string& out) const {
    if (c >= syllables && c < syllables + num_syllables) {
      const char32_t index = c - syllables;
      out += leads + index / (num_vowels * num_trails);
      out += vowels + index / num_trails % num_vowels;
      if (index % num_trails != 0) out += trails + index % num_trails;
      return;
    }
    const auto found = decompositions_.find(c);
    if (found == decompositions_.end()) out += c;
    else out += found->second;
  }

  int combining_class(char32_t c) const {
    const auto found = classes_.find(c);
    return found == classes_.end() ? 0 : found->second;
  }

  // 0: they do not compose.
  char32_t compose(char32_t first, char32_t second) const {
    if (first >= leads && first < leads + num_leads && second >= vowels && second < vowels + num_vowels)
      return syllables + ((first - leads) * num_vowels + second - vowels) * num_trails;
    const bool is_open =
        first >= syllables && first < syllables + num_syllables && (first - syllables) % num_trails == 0;
    if (is_open && second > trails && second < trails + num_trails) return first + second - trails;
    const auto found = pairs_.find(key(first, second));
    return found == pairs_.end() ? 0 : found->second;
  }

 private:
  static std::uint64_t key(char32_t first, char32_t second) { return std::uint64_t{first} << 32 | second; }

  void read_decompositions(std::string_view text) {
    char32_t code = 0;
    while (!text.empty()) {
      std::uint32_t count = 1;
      if (take(text, ';')) {
        code = take_number(text);
        if (take(text, '+')) count = take_number(text);
        take(text, '=');
      } else {
        take(text, '|');
      }
      std::u32string characters(1, take_number(text));
      while (take(text, ' ')) characters += take_number(text);
      for (; count > 0; --count, ++characters.back()) decompositions_[code++] = characters;
    }
  }

  void read_classes(std::string_view text) {
    while (take(text, ';')) {
      const auto number = static_cast<int>(take_number(text));
      take(text, '=');
      while (!text.empty() && !text.starts_with(';')) {
        char32_t code = take_number(text);
        take(text, '+');
        for (char32_t count = take_number(text); count > 0; --count) classes_[code++] = number;
        take(text, ' ');
      }
    }
  }

  std::unordered_map<char32_t, std::u32string> decompositions_;
  std::unordered_map<char32_t, int> classes_;
  std::unordered_map<std::uint64_t, char32_t> pairs_;
};

const Tables& tables() {
  static const Tables all;
  return all;
}

// Marks behind a starter by class, those of one class as they stand.
void order_marks(std::u32string& text) {
  const Tables& t = tables();
  const auto is_starter = [&](char32_t c) { return t.combining_class(c) == 0; };
  for (auto at = text.begin(); at != text.end();) {
    const auto first = std::find_if_not(at, text.end(), is_starter);
    at = std::find_if(first, text.end(), is_starter);
    std::stable_sort(first, at, [&](char32_t a, char32_t b) { return t.combining_class(a) < t.combining_class(b); });
  }
}

// Joins each character with the last starter where they compose and nothing between them is in the way.
std::u32string composed(const std::u32string& text) {
  const Tables& t = tables();
  std::u32string out;
  std::size_t starter = std::u32string::npos;
  int last_class = 0;  // of the last character that was kept behind the starter
  for (const char32_t c : text) {
    const int number = t.combining_class(c);
    const bool is_next = starter != std::u32string::npos && out.size() == starter + 1;
    if (starter != std::u32string::npos && (is_next || last_class < number)) {
      if (const char32_t whole = t.compose(out[starter], c)) {
        out[starter] = whole;
        continue;
      }
    }
    if (number == 0) starter = out.size();
    last_class = number;
    out += c;
  }
  return out;
}

void append_utf8(char32_t c, std::string& out) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    tail(12), tail(6), tail(0);
  }
}

}  // namespace

std::string to_nfkc(std::string_view utf8) {
  if (std::ranges::all_of(utf8, [](char c) { return static_cast<unsigned char>(c) < 0x80; })) return std::string(utf8);
  std::u32string text;
  while (!utf8.empty()) tables().decompose(take_code_point(utf8), text);
  order_marks(text);
  std::string out;
  for (const char32_t c : composed(text)) append_utf8(c, out);
  return out;
}

}  // namespace flexgen

#include "job/output/done_rows.hpp"

#include <fmt/core.h>

#include <charconv>

namespace flexgen {
namespace {

constexpr std::uint64_t most_ordinals = std::uint64_t{1} << 36;  // a damaged number shall not take all memory

std::optional<std::uint64_t> number_of(std::string_view word) {
  std::uint64_t number = 0;
  const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || rest != word.data() + word.size() || number >= most_ordinals) return std::nullopt;
  return number;
}

}  // namespace

bool DoneRows::add(std::uint64_t ordinal) {
  if (contains(ordinal)) return false;
  if (ordinal / 64 >= words_.size()) words_.resize(ordinal / 64 + 1);
  words_[ordinal / 64] |= std::uint64_t{1} << (ordinal % 64);
  ++count_;
  return true;
}

void DoneRows::remove(std::uint64_t ordinal) {
  if (!contains(ordinal)) return;
  words_[ordinal / 64] &= ~(std::uint64_t{1} << (ordinal % 64));
  --count_;
}

std::string DoneRows::to_text() const {
  std::string text;
  const std::uint64_t end = words_.size() * 64;
  for (std::uint64_t first = 0; first < end; ++first) {
    if (!contains(first)) continue;
    std::uint64_t last = first;
    while (contains(last + 1)) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", first);
    if (last > first) text += fmt::format("-{}", last);
    first = last;
  }
  return text.empty() ? "-" : text;
}

std::optional<DoneRows> DoneRows::from_text(std::string_view text) {
  DoneRows rows;
  if (text == "-") return rows;
  for (bool is_last = false; !is_last;) {
    const std::size_t comma = text.find(',');
    is_last = comma == std::string_view::npos;
    const std::string_view range = text.substr(0, comma);
    const std::size_t dash = range.find('-');
    const auto first = number_of(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number_of(range.substr(dash + 1));
    if (!first || !last || *last < *first) return std::nullopt;
    for (std::uint64_t ordinal = *first; ordinal <= *last; ++ordinal) rows.add(ordinal);
    if (!is_last) text.remove_prefix(comma + 1);
  }
  return rows;
}

}  // namespace flexgen

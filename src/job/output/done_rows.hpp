// Which rows of the input have their result, by ordinal: a bit for each row of the input up to the last of them.
//
// A value. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

class DoneRows {
 public:
  bool contains(std::uint64_t ordinal) const {
    return ordinal / 64 < words_.size() && (words_[ordinal / 64] >> (ordinal % 64) & 1) != 0;
  }
  std::uint64_t count() const { return count_; }

  /// False where it is there already.
  bool add(std::uint64_t ordinal);
  void remove(std::uint64_t ordinal);

  /// "1-57,59"; "-" where there is none.
  std::string to_text() const;
  /// Nothing for what to_text does not write, nor for ordinals that no input has.
  static std::optional<DoneRows> from_text(std::string_view text);

 private:
  std::vector<std::uint64_t> words_;
  std::uint64_t count_ = 0;
};

}  // namespace flexgen

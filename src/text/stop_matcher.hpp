// Finds stop strings in the text of one row as it grows.
//
// One object per row, one thread at a time. A stop string may span any number of pieces. Until one is found the last
// few bytes may be its beginning: only the first safe_length() bytes may be shown to a client.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

class StopMatcher {
 public:
  /// Empty strings are ignored. Without stop strings nothing stops and all text is safe at once.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  /// Appends decoded text (whole UTF-8 characters). True: a stop string is in the text now (or was before; the piece
  /// is dropped then).
  bool push(std::string_view piece);

  bool stopped() const { return stopped_; }

  /// All text so far; once stopped, what precedes the stop string that begins first.
  const std::string& text() const { return text_; }

  /// Bytes of text() that no later piece can cut off. Never falls. All of text() once stopped.
  std::size_t safe_length() const { return safe_length_; }

 private:
  /// Length of the longest proper prefix of a stop string that ends the text.
  std::size_t pending_length() const;

  std::vector<std::string> stop_strings_;
  std::size_t max_length_ = 0;  // of a stop string
  std::string text_;
  std::size_t safe_length_ = 0;
  bool stopped_ = false;
};

}  // namespace flexgen

// UTF-8: validation, and the repair of byte streams that are cut or broken.
//
// Free functions are pure; a Utf8Repairer is the state of one stream (one thread at a time).
// Source: RFC 3629; replacement by "maximal subparts" as in chapter 3.9 of the Unicode standard, which is what
// Python's errors="replace" does.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace flexgen {

/// Offset of the first byte that is not part of well-formed UTF-8; nothing when all of `bytes` is well-formed.
std::optional<std::size_t> first_invalid_utf8(std::string_view bytes);

/// Appends the UTF-8 form of `code_point` (<= 0x10FFFF).
void append_utf8(std::string& out, char32_t code_point);

/// First code point of well-formed, non-empty `text`; removes it from `text`.
char32_t take_code_point(std::string_view& text);

/// Turns any bytes, arriving in any pieces, into well-formed UTF-8: each maximal ill-formed subpart becomes U+FFFD.
/// An incomplete sequence at the end is held back until it is complete, broken, or finished.
class Utf8Repairer {
 public:
  /// Appends to `out` what has become certain.
  void push(std::string_view bytes, std::string& out);
  /// Ends the stream: an incomplete sequence becomes one U+FFFD. The object can then take a new stream.
  void finish(std::string& out);

 private:
  std::string pending_;  // a proper prefix of a sequence, <= 3 bytes
};

}  // namespace flexgen

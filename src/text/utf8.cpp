#include "text/utf8.hpp"

#include <cstdint>

namespace flexgen {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Verdict { complete, incomplete, broken };

struct Sequence {
  Verdict verdict;
  std::size_t num_bytes;  // of the sequence; when broken or incomplete, of its longest well-formed prefix (>= 1)
};

// Looks at the sequence that starts at `at`. The second byte's range keeps out overlong forms, surrogates and
// what lies above U+10FFFF (table 3-7 of the standard).
Sequence inspect(std::string_view bytes, std::size_t at) {
  auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  const std::uint8_t lead = byte(at);
  if (lead < 0x80) return {Verdict::complete, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Verdict::broken, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i == bytes.size()) return {Verdict::incomplete, i};
    if (byte(at + i) < low || byte(at + i) > high) return {Verdict::broken, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Verdict::complete, length};
}

}  // namespace

std::optional<std::size_t> first_invalid_utf8(std::string_view bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const Sequence sequence = inspect(bytes, at);
    if (sequence.verdict != Verdict::complete) return at;
    at += sequence.num_bytes;
  }
  return std::nullopt;
}

void append_utf8(std::string& out, char32_t code_point) {
  auto put = [&](char32_t value) { out.push_back(static_cast<char>(value)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

char32_t take_code_point(std::string_view& text) {
  const auto lead = static_cast<std::uint8_t>(text[0]);
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t code_point = length == 1 ? lead : lead & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) code_point = (code_point << 6) | (static_cast<std::uint8_t>(text[i]) & 0x3F);
  text.remove_prefix(length);
  return code_point;
}

void Utf8Repairer::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_;
    joined += bytes;
    bytes = joined;
    pending_.clear();
  }
  for (std::size_t at = 0; at < bytes.size();) {
    const Sequence sequence = inspect(bytes, at);
    if (sequence.verdict == Verdict::incomplete) {
      pending_ = bytes.substr(at);
      return;
    }
    if (sequence.verdict == Verdict::complete) {
      out += bytes.substr(at, sequence.num_bytes);
    } else {
      out += replacement;
    }
    at += sequence.num_bytes;
  }
}

void Utf8Repairer::finish(std::string& out) {
  if (!pending_.empty()) out += replacement;
  pending_.clear();
}

}  // namespace flexgen

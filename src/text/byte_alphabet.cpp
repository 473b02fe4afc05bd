#include "text/byte_alphabet.hpp"

#include <array>

#include "text/utf8.hpp"

namespace flexgen {
namespace {

constexpr char32_t num_alphabet_code_points = 0x100 + 68;

struct Alphabet {
  std::array<std::string, 256> symbol_of_byte;
  std::array<int, num_alphabet_code_points> byte_of_code_point;  // -1: not in the alphabet

  Alphabet() {
    byte_of_code_point.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
      const char32_t code_point = printable ? static_cast<char32_t>(byte) : next++;
      append_utf8(symbol_of_byte[byte], code_point);
      byte_of_code_point[code_point] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view byte_symbol(std::uint8_t byte) { return alphabet().symbol_of_byte[byte]; }

std::optional<std::string> bytes_of_symbols(std::string_view token) {
  const Alphabet& known = alphabet();
  std::string bytes;
  while (!token.empty()) {
    const char32_t code_point = take_code_point(token);
    if (code_point >= num_alphabet_code_points || known.byte_of_code_point[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(known.byte_of_code_point[code_point]));
  }
  return bytes;
}

}  // namespace flexgen

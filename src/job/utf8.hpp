// Which bytes are text: well-formed UTF-8.
//
// Private to the room. Pure functions. Source: RFC 3629.
#pragma once

#include <cstddef>
#include <string_view>

namespace flexgen {

/// A byte behind the first of its character.
constexpr bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0u) == 0x80u; }

/// Length of the well-formed character that `text`, which is not empty, begins with; 0 where there is none.
std::size_t character_length(std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace flexgen

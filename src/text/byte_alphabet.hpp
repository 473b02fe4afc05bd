// The alphabet in which byte-level BPE vocabularies are written: every byte has a printable character.
//
// Pure and thread-safe. Source: the GPT-2 vocabulary format. Bytes that are printable in Latin-1 (0x21-0x7E,
// 0xA1-0xAC, 0xAE-0xFF) stand for themselves as code points; the other 68, in order, are U+0100, U+0101, ...
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace flexgen {

/// The character of `byte`, in UTF-8 ("Ġ" for a space).
std::string_view byte_symbol(std::uint8_t byte);

/// The bytes that a vocabulary entry stands for; nothing when a character of it is not in the alphabet
/// (`token` must be well-formed UTF-8).
std::optional<std::string> bytes_of_symbols(std::string_view token);

}  // namespace flexgen

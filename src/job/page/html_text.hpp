// Text and numbers as they stand in an HTML page. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexgen {

/// Of any bytes a text that is safe in an element and in a quoted attribute: what is no UTF-8, and control characters
/// but tab and line end, become U+FFFD.
std::string html_escaped(std::string_view bytes);

/// "1,234,567".
std::string grouped(std::uint64_t number);
/// "0.35 s", "43 s", "12 min 5 s", "3 h 7 min".
std::string duration_text(double seconds);
/// Three digits that matter, grouped: "0.351", "12.1", "1,234"; "-" for what is not finite.
std::string rate_number(double rate);
/// "97 %"; "-" for what is not finite.
std::string percent_text(double fraction);

}  // namespace flexgen

#include "base/bytes.hpp"

#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/error.hpp"

namespace flexgen {
namespace {

struct Unit {
  std::string_view name;
  double scale;
};

constexpr std::array<Unit, 14> units{{{"", 1.0},
                                      {"b", 1.0},
                                      {"k", 1024.0},
                                      {"kib", 1024.0},
                                      {"kb", 1e3},
                                      {"m", 1048576.0},
                                      {"mib", 1048576.0},
                                      {"mb", 1e6},
                                      {"g", 1073741824.0},
                                      {"gib", 1073741824.0},
                                      {"gb", 1e9},
                                      {"t", 1099511627776.0},
                                      {"tib", 1099511627776.0},
                                      {"tb", 1e12}}};

}  // namespace

std::uint64_t parse_bytes(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end);
  std::string unit;
  for (const char* c = end; *c != '\0'; ++c)
    if (*c != ' ') unit.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(*c))));
  if (end != copy.c_str() && std::isfinite(number) && number >= 0)
    for (const Unit& known : units)
      if (known.name == unit && number * known.scale < 1e18) return static_cast<std::uint64_t>(number * known.scale);
  throw UserError(ExitCode::usage, "'" + copy + "' is not a size", "expected a number and a unit",
                  "Write for example 15GiB, 512MiB or 4096");
}

std::string format_bytes(std::uint64_t bytes) {
  static constexpr std::array<const char*, 5> names{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < names.size()) {
    value /= 1024.0;
    ++unit;
  }
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), unit == 0 ? "%.0f %s" : "%.2f %s", value, names[unit]);
  return buffer.data();
}

}  // namespace flexgen

#include "job/input/input_format.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::array<std::pair<std::string_view, InputFormat>, 5> names{{{"auto", InputFormat::automatic},
                                                                         {"jsonl", InputFormat::jsonl},
                                                                         {"csv", InputFormat::csv},
                                                                         {"tsv", InputFormat::tsv},
                                                                         {"parquet", InputFormat::parquet}}};

}  // namespace

InputFormat parse_input_format(const std::string& name) {
  for (const auto& [known, format] : names)
    if (name == known) return format;
  throw UserError(ExitCode::usage, fmt::format("--input-format {} is not known", name), "",
                  "Use auto, jsonl, csv, tsv or parquet");
}

InputFormat format_of(InputFormat format, std::string_view path) {
  if (format != InputFormat::automatic) return format;
  std::string name(path);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string_view ending = name;
  for (const std::string_view packed : {".gz", ".zst"})
    if (ending.ends_with(packed)) ending.remove_suffix(packed.size());
  if (ending.ends_with(".csv")) return InputFormat::csv;
  if (ending.ends_with(".tsv")) return InputFormat::tsv;
  if (ending.ends_with(".parquet")) return InputFormat::parquet;
  return InputFormat::jsonl;
}

}  // namespace flexgen

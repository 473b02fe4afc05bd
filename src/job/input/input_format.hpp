// The forms in which rows come in, and the inputs of a job. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

/// automatic: by the ending of a file's name (.csv, .tsv, .parquet, before .gz or .zst), else jsonl.
enum class InputFormat : std::uint8_t { automatic, jsonl, csv, tsv, parquet };

/// "auto", "jsonl", ...; throws UserError (usage) for others.
InputFormat parse_input_format(const std::string& name);

/// What `format` comes to for a file of this name.
InputFormat format_of(InputFormat format, std::string_view path);

struct InputFiles {
  std::vector<std::string> paths;  // in their order; "-" is standard input
  InputFormat format = InputFormat::automatic;
};

}  // namespace flexgen

// The vocabularies and reference rows of tests/data/tokenizer.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/scratch_place.hpp"
#include "text/tokenizer.hpp"

namespace flexgen::test {

inline const std::filesystem::path source_dir = FLEXGEN_SOURCE_DIR;
inline const std::filesystem::path data_dir = source_dir / "tests/data/tokenizer";

/// The real OPT vocabulary, whose directory has no tokenizer_config.json ("opt"), or the demo model's ("demo").
inline const Tokenizer& tokenizer(std::string_view name) {
  static const Tokenizer opt = Tokenizer::from_directory(data_dir / "opt");
  static const Tokenizer demo = Tokenizer::from_directory(source_dir / "configs/demo-model");
  return name == "opt" ? opt : demo;
}

inline std::vector<nlohmann::json> read_rows(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(stream, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

/// Copies the OPT vocabulary into it.
inline void add_opt_vocabulary(const ScratchPlace& scratch) {
  for (const char* name : {"vocab.json", "merges.txt"})
    std::filesystem::copy_file(data_dir / "opt" / name, scratch / name);
}

}  // namespace flexgen::test

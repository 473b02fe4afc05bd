// The vocabularies and reference rows of tests/data/tokenizer, and scratch model directories.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

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

/// A directory of its own, removed at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    path_ = std::filesystem::temp_directory_path() / ("flexgen_text_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(path_);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, std::string_view content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
  }
  /// Copies the OPT vocabulary into it.
  void add_opt_vocabulary() const {
    for (const char* name : {"vocab.json", "merges.txt"}) {
      std::filesystem::copy_file(data_dir / "opt" / name, path_ / name);
    }
  }

 private:
  std::filesystem::path path_;
};

}  // namespace flexgen::test

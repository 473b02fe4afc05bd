// A fixture of row books: lines of JSON in, lines of JSON out, and the demo model's tokenizer and shape.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "batch/row_source.hpp"
#include "job/output/result_writer.hpp"
#include "job/request_reader.hpp"
#include "model/read_spec.hpp"
#include "tests/support/scratch_place.hpp"
#include "text/tokenizer.hpp"

namespace flexgen::test {

class RowFilesTest : public ::testing::Test {
 protected:
  RowFilesTest() { writer_.start(); }

  static std::filesystem::path demo_model() { return std::filesystem::path(FLEXGEN_SOURCE_DIR) / "configs/demo-model"; }
  static const Tokenizer& tokenizer() {
    static const Tokenizer demo = Tokenizer::from_directory(demo_model());
    return demo;
  }

  /// Has the book read these rows.
  template <class Book>
  void read_rows(Book& book, const std::vector<nlohmann::json>& rows, const RequestDefaults& defaults) {
    std::ofstream input(place_ / "in.jsonl");
    for (const nlohmann::json& row : rows) input << row.dump() << "\n";
    input.close();
    RequestReader reader((place_ / "in.jsonl").string(), defaults);
    book.read(reader);
  }

  /// All rows that a book gives, in order.
  static std::vector<RowRequest> pull_all(RowSource& book) {
    std::vector<RowRequest> rows;
    while (std::optional<RowRequest> row = book.next_row()) rows.push_back(std::move(*row));
    return rows;
  }

  std::vector<nlohmann::json> results() {
    std::ifstream output(place_ / "out.jsonl");
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(output, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }

  ScratchPlace place_;
  ModelSpec model_ = read_model_spec(demo_model().string());
  ResultWriter writer_{{.path = (place_ / "out.jsonl").string()}};
};

}  // namespace flexgen::test

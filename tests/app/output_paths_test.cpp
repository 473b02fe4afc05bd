#include "app/output_paths.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

namespace fs = std::filesystem;

class OutputPaths : public ::testing::Test {
 protected:
  OutputPaths() {
    o_.command = "generate";
    o_.model.name = put("model/config.json", "{}").parent_path();
    put("model/vocab.json", "{}");
    put("model/model-1.safetensors", "x");
    o_.rows.inputs.paths = {put("rows.jsonl", "precious\n")};
    o_.files.output = at("out.jsonl");
    o_.machine.offload_dir = place_.path();
  }

  fs::path put(const std::string& file, const std::string& text) {
    fs::create_directories((place_ / file).parent_path());
    std::ofstream(place_ / file) << text;
    return place_ / file;
  }
  std::string at(const std::string& name) const { return place_ / name; }

  void expect_refused(ExitCode code, std::initializer_list<std::string> parts) {
    try {
      check_output_paths(o_);
      ADD_FAILURE() << "was accepted";
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      for (const std::string& part : parts)
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << "\nlacks " << part;
    }
  }

  test::ScratchPlace place_;
  Options o_;
};

TEST_F(OutputPaths, FilesOfTheirOwnAreFine) {
  o_.files.report = at("report.json");
  o_.files.trace = at("trace.json");
  o_.score.text = put("text", "x");
  o_.rows.quality_check = o_.machine.profile = o_.config = o_.score.text;  // what is only read may be read twice
  o_.model.save_compressed = at("new");
  EXPECT_NO_THROW(check_output_paths(o_));
  o_.files.output = o_.files.report = o_.files.trace = "/dev/null";
  EXPECT_NO_THROW(check_output_paths(o_));
  o_.files.output = at("model/results.jsonl");
  o_.files.report = at("model/report.json");
  EXPECT_NO_THROW(check_output_paths(o_));
}

TEST_F(OutputPaths, NothingThatIsWrittenIsAnyOtherFile) {
  const std::string rows = o_.rows.inputs.paths[0];
  using Member = std::string& (*)(Options&);
  const std::pair<const char*, Member> written[] = {
      {"--output", [](Options& o) -> std::string& { return o.files.output; }},
      {"--report", [](Options& o) -> std::string& { return o.files.report; }},
      {"--trace", [](Options& o) -> std::string& { return o.files.trace; }}};
  const std::pair<const char*, Member> read[] = {
      {"--input", [](Options& o) -> std::string& { return o.rows.inputs.paths.emplace_back(); }},
      {"--text", [](Options& o) -> std::string& { return o.score.text; }},
      {"--quality-check", [](Options& o) -> std::string& { return o.rows.quality_check; }},
      {"--profile", [](Options& o) -> std::string& { return o.machine.profile; }},
      {"--config", [](Options& o) -> std::string& { return o.config; }}};
  const Options good = o_;
  for (const auto& [to, write] : written) {
    for (const auto& [from, source] : read) {
      o_ = good;
      o_.rows.inputs.paths.clear();
      source(o_) = write(o_) = rows;
      expect_refused(ExitCode::usage, {to, from, "same file"});
    }
    for (const auto& [other, second] : written) {
      if (second == write) continue;
      o_ = good;
      write(o_) = at("new.json");
      second(o_) = at("model/../new.json");
      expect_refused(ExitCode::usage, {to, other, "same file"});
      write(o_) = second(o_) = "-";
      expect_refused(ExitCode::usage, {to, other, "standard output"});
    }
  }
}

TEST_F(OutputPaths, APageIsAReportToo) {
  o_.files.page = o_.rows.inputs.paths[0];
  expect_refused(ExitCode::usage, {"--report", "--input", "same file"});
  o_.files.page = o_.files.report = at("report.html");
  expect_refused(ExitCode::usage, {"--report", "same file"});
  o_.files.report.clear();
  EXPECT_NO_THROW(check_output_paths(o_));
  o_.files.page = put("other.html", "<!doctype html>\n<p>precious</p>\n");
  expect_refused(ExitCode::file, {"--report", "no report's page"});
}

TEST_F(OutputPaths, LinksAndOtherNamesAreSeenThrough) {
  fs::create_symlink(o_.rows.inputs.paths[0], at("soft"));
  fs::create_hard_link(o_.rows.inputs.paths[0], at("hard"));
  fs::create_directory_symlink(place_.path(), at("around"));
  for (const char* name : {"soft", "hard", "around/rows.jsonl", "around/soft", "./rows.jsonl"}) {
    o_.files.trace = at(name);
    expect_refused(ExitCode::usage, {"--trace", "--input", "same file"});
  }
  o_.files.trace.clear();
  fs::create_symlink("nothing.json", at("dangling"));
  o_.files.report = at("around/dangling");
  o_.files.output = at("nothing.json");
  expect_refused(ExitCode::usage, {"--report", "--output", "same file"});
}

TEST_F(OutputPaths, AModelIsLeftAlone) {
  for (const char* name : {"config.json", "vocab.json", "merges.txt", "model-1.safetensors"}) {
    o_.files.report = at(std::string("model/") + name);
    expect_refused(ExitCode::usage, {"--report", "--model", name});
  }
  o_.files.report.clear();
  o_.model.save_compressed = at("new");
  for (const char* name : {"new", "new/", "new/out.jsonl"}) {
    o_.files.output = at(name);
    expect_refused(ExitCode::usage, {"--output", "--save-compressed"});
  }
}

TEST_F(OutputPaths, FoldersAreNotMade) {
  const Options good = o_;
  for (std::string* path : {&o_.files.report, &o_.files.trace, &o_.model.save_compressed, &o_.machine.offload_dir}) {
    *path = at("typo/x");
    expect_refused(ExitCode::file, {"there is no folder '" + at("typo") + "'"});
    o_ = good;
  }
  EXPECT_FALSE(fs::exists(at("typo")));
}

TEST_F(OutputPaths, FiguresReplaceNothingElse) {
  o_.files.report = put("other.jsonl", "precious\n");
  expect_refused(ExitCode::file, {"--report", "no report"});
  std::swap(o_.files.report, o_.files.trace);
  expect_refused(ExitCode::file, {"--trace", "no trace"});
}

TEST_F(OutputPaths, OfAProfile) {
  o_ = {};
  o_.command = "profile";
  o_.config = o_.files.output = put("options.json", "{}");
  o_.machine.offload_dir = place_.path();
  expect_refused(ExitCode::usage, {"--output", "--config", "same file"});
}

}  // namespace
}  // namespace flexgen::test

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
    o_.model = put("model/config.json", "{}").parent_path();
    put("model/vocab.json", "{}");
    put("model/model-1.safetensors", "x");
    o_.input = put("rows.jsonl", "precious\n");
    o_.output = at("out.jsonl");
    o_.offload_dir = place_.path();
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
  o_.report = at("report.json");
  o_.trace = at("trace.json");
  o_.text = put("text", "x");
  o_.quality_check = o_.profile = o_.config = o_.text;  // what is only read may be read twice
  o_.save_compressed = at("new");
  EXPECT_NO_THROW(check_output_paths(o_));
  o_.output = o_.report = o_.trace = "/dev/null";
  EXPECT_NO_THROW(check_output_paths(o_));
  o_.output = at("model/results.jsonl");
  o_.report = at("model/report.json");
  EXPECT_NO_THROW(check_output_paths(o_));
}

TEST_F(OutputPaths, NothingThatIsWrittenIsAnyOtherFile) {
  const std::string rows = o_.input;
  using Member = std::string Options::*;
  const std::pair<const char*, Member> written[] = {
      {"--output", &Options::output}, {"--report", &Options::report}, {"--trace", &Options::trace}};
  const std::pair<const char*, Member> read[] = {{"--input", &Options::input},
                                                 {"--text", &Options::text},
                                                 {"--quality-check", &Options::quality_check},
                                                 {"--profile", &Options::profile},
                                                 {"--config", &Options::config}};
  const Options good = o_;
  for (const auto& [to, write] : written) {
    for (const auto& [from, source] : read) {
      o_ = good;
      o_.input.clear();
      o_.*source = o_.*write = rows;
      expect_refused(ExitCode::usage, {to, from, "same file"});
    }
    for (const auto& [other, second] : written) {
      if (second == write) continue;
      o_ = good;
      o_.*write = at("new.json");
      o_.*second = at("model/../new.json");
      expect_refused(ExitCode::usage, {to, other, "same file"});
      o_.*write = o_.*second = "-";
      expect_refused(ExitCode::usage, {to, other, "standard output"});
    }
  }
}

TEST_F(OutputPaths, LinksAndOtherNamesAreSeenThrough) {
  fs::create_symlink(o_.input, at("soft"));
  fs::create_hard_link(o_.input, at("hard"));
  fs::create_directory_symlink(place_.path(), at("around"));
  for (const char* name : {"soft", "hard", "around/rows.jsonl", "around/soft", "./rows.jsonl"}) {
    o_.trace = at(name);
    expect_refused(ExitCode::usage, {"--trace", "--input", "same file"});
  }
  o_.trace.clear();
  fs::create_symlink("nothing.json", at("dangling"));
  o_.report = at("around/dangling");
  o_.output = at("nothing.json");
  expect_refused(ExitCode::usage, {"--report", "--output", "same file"});
}

TEST_F(OutputPaths, AModelIsLeftAlone) {
  for (const char* name : {"config.json", "vocab.json", "merges.txt", "model-1.safetensors"}) {
    o_.report = at(std::string("model/") + name);
    expect_refused(ExitCode::usage, {"--report", "--model", name});
  }
  o_.report.clear();
  o_.save_compressed = at("new");
  for (const char* name : {"new", "new/", "new/out.jsonl"}) {
    o_.output = at(name);
    expect_refused(ExitCode::usage, {"--output", "--save-compressed"});
  }
}

TEST_F(OutputPaths, FoldersAreNotMade) {
  for (std::string Options::*member :
       {&Options::report, &Options::trace, &Options::save_compressed, &Options::offload_dir}) {
    const Options good = o_;
    o_.*member = at("typo/x");
    expect_refused(ExitCode::file, {"there is no folder '" + at("typo") + "'"});
    o_ = good;
  }
  EXPECT_FALSE(fs::exists(at("typo")));
}

TEST_F(OutputPaths, FiguresReplaceNothingElse) {
  o_.report = put("other.jsonl", "precious\n");
  expect_refused(ExitCode::file, {"--report", "no report"});
  std::swap(o_.report, o_.trace);
  expect_refused(ExitCode::file, {"--trace", "no trace"});
}

TEST_F(OutputPaths, OfAProfile) {
  o_ = {};
  o_.command = "profile";
  o_.config = o_.output = put("options.json", "{}");
  o_.offload_dir = place_.path();
  expect_refused(ExitCode::usage, {"--output", "--config", "same file"});
}

}  // namespace
}  // namespace flexgen::test

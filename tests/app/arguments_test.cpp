#include "app/arguments.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

using Words = std::vector<std::string>;
const ArgumentRules rules{{"overlap", "pin-weight", "dummy"}, {"percent"}, {"input"}};

Words normal(Words words) { return normalize_arguments(std::move(words), rules).words; }

TEST(Arguments, ValuesJoinTheirOption) {
  EXPECT_EQ(normal({"--model", "m", "--gen-len=5", "--input", "-"}), (Words{"--model=m", "--gen-len=5", "--input=-"}));
  EXPECT_EQ(normal({"--model"}), (Words{"--model"}));
  EXPECT_EQ(normal({"--model", "--gen-len", "5"}), (Words{"--model", "--gen-len=5"})) << "an option is no value";
  EXPECT_EQ(normal({"--path", "a b=c"}), (Words{"--path=a b=c"}));
  EXPECT_EQ(normal({}), Words{});
}

TEST(Arguments, ListsTakeAllNumbersThatFollow) {
  EXPECT_EQ(normal({"--percent", "20", "80", "0", "100", "0", "100", "--model", "m"}),
            (Words{"--percent=20,80,0,100,0,100", "--model=m"}));
  EXPECT_EQ(normal({"--percent", "12.5", "-1", "x"}), (Words{"--percent=12.5,-1", "x"}));
  EXPECT_EQ(normal({"--percent=1,2"}), (Words{"--percent=1,2"}));
  EXPECT_EQ(normal({"--percent", "100 0 100", "--model", "m"}), (Words{"--percent=100 0 100", "--model=m"}));
  EXPECT_EQ(normal({"--percent", "100,0", "50"}), (Words{"--percent=100,0,50"}));
  EXPECT_THROW(normal({"--percent", ""}), UserError);
  EXPECT_THROW(normal({"--percent"}), UserError);
  EXPECT_EQ(normal({"--percent", "ranks.json", "--model", "m"}), (Words{"--percent=ranks.json", "--model=m"}));
  EXPECT_THROW(normal({"--percent", "most", "of"}), UserError);
}

TEST(Arguments, EveryFileThatFollowsIsAUseOfItsOption) {
  const Words three{"--input=a", "--input=b", "--input=c"};
  EXPECT_EQ(normal({"--input", "a", "b", "c"}), three);
  EXPECT_EQ(normal({"--input=a", "b", "--input", "c"}), three);
  EXPECT_EQ(normal({"--input", "--overlap"}), (Words{"--input=", "--overlap=true"}));
}

TEST(Arguments, SwitchesAsFlexGenWritesThem) {
  for (const char* yes : {"true", "True", "TRUE", "t", "yes", "Y", "1"}) {
    EXPECT_EQ(normal({"--overlap", yes}), (Words{"--overlap=true"})) << yes;
    EXPECT_EQ(normal({std::string("--overlap=") + yes}), (Words{"--overlap=true"})) << yes;
  }
  for (const char* no : {"false", "False", "f", "no", "N", "0"}) {
    EXPECT_EQ(normal({"--overlap", no, "--dummy"}), (Words{"--overlap=false", "--dummy=true"})) << no;
    EXPECT_EQ(normal({std::string("--overlap=") + no}), (Words{"--overlap=false"})) << no;
  }
  EXPECT_EQ(normal({"--overlap", "--pin-weight", "0"}), (Words{"--overlap=true", "--pin-weight=false"}));
  try {
    normal({"--overlap=maybe"});
    ADD_FAILURE() << "was accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("--overlap maybe is neither true nor false"), std::string::npos);
  }
  EXPECT_EQ(normal({"--overlap", "maybe"}), (Words{"--overlap=true", "maybe"}));
}

class ConfigFile : public ::testing::Test {
 protected:
  std::string write(const std::string& text) {
    std::ofstream(place_ / "options.json") << text;
    return (place_ / "options.json").string();
  }

  void expect_refused(const Words& words, ExitCode code, const std::string& part) {
    try {
      normal(words);
      ADD_FAILURE() << "was accepted";
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  test::ScratchPlace place_;
};

TEST_F(ConfigFile, HoldsAnyOptionAndTheCommandLineWins) {
  const std::string path = write(R"({"percent": [20, 80, 0, 100, 0, 12.5], "gen_len": 9, "model": "m", "overlap": false,
                                     "pin-weight": "True"})");
  const Words words = normal({"--gen-len", "5", "--config", path, "--dummy"});
  EXPECT_EQ(words, (Words{"--model=m", "--overlap=false", "--percent=20,80,0,100,0,12.5", "--pin-weight=true",
                          "--gen-len=5", "--dummy=true"}));
  EXPECT_EQ(normal({"--config=" + path, "--overlap", "--percent", "0", "0", "0", "0", "0", "0", "--model=x",
                    "--gen-len", "1"}),
            (Words{"--pin-weight=true", "--overlap=true", "--percent=0,0,0,0,0,0", "--model=x", "--gen-len=1"}));
  EXPECT_EQ(normal({"--config", write("{}")}), Words{});
}

TEST_F(ConfigFile, WhatIsNoObjectOfPlainValuesIsRefused) {
  for (const char* text : {"", "[]", "{", "null", "\"x\"", "{} x"})
    expect_refused({"--config", write(text)}, ExitCode::usage, "not a JSON object");
  for (const char* text : {R"({"model": null})", R"({"model": {"a": 1}})", R"({"percent": [[1]]})"})
    expect_refused({"--config", write(text)}, ExitCode::usage, "options.json");
}

TEST_F(ConfigFile, AnOptionThatStandsInItTwiceIsNamed) {
  expect_refused({"--config", write(R"({"model": "a", "percent": [1], "model": "b"})")}, ExitCode::usage, "'model'");
  expect_refused({"--config", write(R"({"gen-len": 1, "gen_len": 1})")}, ExitCode::usage, "'gen_len'");
  expect_refused({"--config", write(R"({"overlap": "perhaps"})")}, ExitCode::usage, "--overlap perhaps");
}

TEST_F(ConfigFile, ItsNameIsKept) {
  const std::string path = write("{}");
  EXPECT_EQ(normalize_arguments({"--config", path}, rules).config, path);
  EXPECT_EQ(normalize_arguments({"--model", "m"}, rules).config, "");
}

TEST_F(ConfigFile, NothingAboutItIsIgnored) {
  expect_refused({"--config"}, ExitCode::usage, "--config");
  expect_refused({"--config="}, ExitCode::usage, "--config");
  expect_refused({"--config", (place_ / "nothing.json").string()}, ExitCode::file, "No such file");
  expect_refused({"--config", write(R"({"config": "other.json"})")}, ExitCode::usage, "another config file");
}

}  // namespace
}  // namespace flexgen::test

#include "base/log.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class LogTest : public ::testing::Test {
 protected:
  void TearDown() override { log::set_up(log::Level::info, 0, 1, ""); }

  static std::string all_levels() {
    CaptureStderr();
    log::debug("d");
    log::info("i");
    log::warn("w");
    log::error("e");
    return GetCapturedStderr();
  }
};

TEST_F(LogTest, RankZeroSpeaksPlainly) {
  log::set_up(log::Level::info, 0, 4, "box");
  EXPECT_EQ(all_levels(), "i\nwarning: w\nerror: e\n");
}

TEST_F(LogTest, OtherRanksOnlyWarnAndSayWhoTheyAre) {
  log::set_up(log::Level::info, 2, 4, "box");
  EXPECT_EQ(all_levels(), "[r2/4 box] warning: w\n[r2/4 box] error: e\n");
}

TEST_F(LogTest, LevelsCutOff) {
  log::set_up(log::Level::debug, 1, 2, "box");
  EXPECT_EQ(all_levels(), "[r1/2 box] d\n[r1/2 box] i\n[r1/2 box] warning: w\n[r1/2 box] error: e\n");
  log::set_up(log::Level::error, 0, 1, "box");
  EXPECT_EQ(all_levels(), "error: e\n");
}

TEST_F(LogTest, BracesAreText) {
  CaptureStderr();
  log::info("{} {:d} {");
  EXPECT_EQ(GetCapturedStderr(), "{} {:d} {\n");
}

TEST_F(LogTest, ParsesLevels) {
  EXPECT_EQ(log::parse_level("debug"), log::Level::debug);
  EXPECT_EQ(log::parse_level("error"), log::Level::error);
  EXPECT_THROW(log::parse_level("Info"), UserError);
  EXPECT_THROW(log::parse_level(""), UserError);
}

}  // namespace
}  // namespace flexgen::test

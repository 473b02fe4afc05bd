#include "base/error.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace flexgen::test {
namespace {

TEST(UserError, ReadsWhatWhyWhatToDo) {
  const UserError whole(ExitCode::file, "cannot open 'x'", "No such file or directory", "Check --input");
  EXPECT_STREQ(whole.what(), "cannot open 'x': No such file or directory. Check --input");
  EXPECT_EQ(whole.code(), ExitCode::file);
  EXPECT_STREQ(UserError(ExitCode::usage, "--x is bad", "it is 0").what(), "--x is bad: it is 0");
  EXPECT_STREQ(UserError(ExitCode::usage, "--x is bad", "", "Give 1").what(), "--x is bad. Give 1");
  EXPECT_STREQ(UserError(ExitCode::usage, "--x is bad", "").what(), "--x is bad");
}

TEST(SystemError, NamesTheCallAndItsReason) {
  const SystemError error(ExitCode::communication, "pread of 'x.bin' at 4096", "Input/output error", "Check the disk");
  EXPECT_STREQ(error.what(), "pread of 'x.bin' at 4096 failed: Input/output error. Check the disk");
  EXPECT_EQ(error.code(), ExitCode::communication);
}

TEST(Check, ThrowsOnlyWhenBroken) {
  int calls = 0;
  const auto holds = [&](bool value) {
    ++calls;
    return value;
  };
  EXPECT_NO_THROW(FLEXGEN_CHECK(holds(true), "never seen"));
  EXPECT_EQ(calls, 1);
  try {
    FLEXGEN_CHECK(holds(false), "two and two are five");
    FAIL();
  } catch (const InternalError& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), ExitCode::internal);
    EXPECT_NE(text.find("two and two are five"), std::string::npos) << text;
    EXPECT_NE(text.find("holds(false)"), std::string::npos) << text;
    EXPECT_NE(text.find(" at tests/base/error_test.cpp:"), std::string::npos) << text;
  }
  EXPECT_EQ(calls, 2);
}

TEST(Check, NamesNoFolderOfTheMachineThatBuiltIt) {
  const auto named = [](const char* file) {
    try {
      fail_check("x", "broken", file, 7);
    } catch (const InternalError& error) {
      return std::string(error.what());
    }
  };
  EXPECT_NE(named("/home/ann/src/flexgen/src/app/x.cpp").find("(x at src/app/x.cpp:7)"), std::string::npos);
  EXPECT_NE(named("src/app/x.cpp").find("(x at src/app/x.cpp:7)"), std::string::npos);
  EXPECT_NE(named("/build/x.cpp").find("(x at x.cpp:7)"), std::string::npos);
  EXPECT_EQ(named(__FILE__).find(FLEXGEN_SOURCE_DIR), std::string::npos);
}

TEST(ErrnoText, Decodes) {
  EXPECT_EQ(errno_text(ENOENT), "No such file or directory");
  EXPECT_EQ(errno_text(ENOSPC), "No space left on device");
  EXPECT_FALSE(errno_text(99999).empty());
}

TEST(ExitCodes, AreTheDocumentedNumbers) {
  EXPECT_EQ(static_cast<int>(ExitCode::ok), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::rows_failed), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::usage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::model), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::does_not_fit), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::communication), 5);
  EXPECT_EQ(static_cast<int>(ExitCode::file), 6);
  EXPECT_EQ(static_cast<int>(ExitCode::interrupted), 130);
}

}  // namespace
}  // namespace flexgen::test

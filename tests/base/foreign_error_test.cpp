#include "base/foreign_error.hpp"

#include <gtest/gtest.h>

#include <new>
#include <string>
#include <system_error>

namespace flexgen::test {
namespace {

std::error_code code_of(std::errc error) { return std::make_error_code(error); }

TEST(ForeignError, OwnOnesStayAsTheyAre) {
  const Error error = foreign_error(UserError(ExitCode::file, "cannot open 'x'", "it is gone"));
  EXPECT_EQ(error.code(), ExitCode::file);
  EXPECT_STREQ(error.what(), "cannot open 'x': it is gone");
}

TEST(ForeignError, WhatTheSystemRefusesIsNoBug) {
  const std::system_error thread(code_of(std::errc::resource_unavailable_try_again));
  const std::system_error memory(code_of(std::errc::not_enough_memory));
  for (const std::exception* refusal : {static_cast<const std::exception*>(&thread), {&memory}}) {
    const Error error = foreign_error(*refusal);
    EXPECT_EQ(error.code(), ExitCode::does_not_fit);
    EXPECT_NE(std::string(error.what()).find(refusal->what()), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--cpu-mem"), std::string::npos) << error.what();
  }
  const Error error = foreign_error(std::bad_alloc());
  EXPECT_EQ(error.code(), ExitCode::does_not_fit);
  EXPECT_EQ(std::string(error.what()).find("out of memory: "), 0U) << error.what();
}

TEST(ForeignError, AllElseIsInternal) {
  for (const std::errc other : {std::errc::io_error, std::errc::operation_not_permitted})
    EXPECT_EQ(foreign_error(std::system_error(code_of(other))).code(), ExitCode::internal);
  const Error error = foreign_error(std::runtime_error("odd"));
  EXPECT_EQ(error.code(), ExitCode::internal);
  EXPECT_STREQ(error.what(), "internal error: odd");
}

}  // namespace
}  // namespace flexgen::test

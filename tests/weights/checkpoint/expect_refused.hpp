// Expects a UserError (model) whose message holds every one of the given pieces.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace flexgen::checkpoint {

template <class Function>
void expect_refused(Function&& function, std::initializer_list<std::string_view> pieces) {
  try {
    function();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    const std::string_view message = error.what();
    for (const std::string_view piece : pieces) {
      EXPECT_NE(message.find(piece), std::string_view::npos) << "no '" << piece << "' in: " << message;
    }
    return;
  }
  ADD_FAILURE() << "was not refused";
}

}  // namespace flexgen::checkpoint
